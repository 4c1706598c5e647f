"""Measured latencies in the tables and charts: one device and back end a column, of runs that are done."""

from __future__ import annotations

from datetime import datetime, timezone

from rexdet.report.page.charts import cost_charts
from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found, Reading
from rexdet.report.tables.answers import answers_table
from rexdet.report.tables.costs import latencies
from rexdet.report.tables.detection import detection_table
from rexdet.report.tables.networks import Known, networks_table
from rexdet.report.tables.runs import latency_table
from rexdet.report.tables.summary import summarise_runs
from rexdet.runs.environment import Accelerator

ONE_IMAGE = "eager float32 batch 1"


def found(*records):
    return [Found(record, f"{place}") for place, record in enumerate(records)]


def column(table, key="latency"):
    """Title of a column, and its texts and sources by network."""
    place = [column.key for column in table.columns].index(key)
    cells = {row.cells[0].text: row.cells[place] for row in table.rows if row.origin == "ours"}
    return table.columns[place].title, {network: cell.text for network, cell in cells.items()}


def networks_of(*records):
    runs = found(*records)
    groups = group(runs)
    known = Known(latencies=latencies(runs))
    return networks_table(groups, known), groups, known


def test_a_column_holds_the_conditions_that_most_networks_were_measured_under(transfer, latency_run) -> None:
    table, groups, known = networks_of(
        *(transfer(network=name) for name in ("resnet18", "resnet34", "resnet50")),
        latency_run("resnet18", {ONE_IMAGE: 10.0}),
        latency_run("resnet34", {ONE_IMAGE: 20.0}),
        # Faster, but of another machine: beside 10 and 20 ms it would say what is not so.
        latency_run("resnet50", {ONE_IMAGE: 1.0}, device="a large GPU"),
    )
    title, texts = column(table)
    assert title == "latency (ms), batch 1, float32, eager, a CPU"
    assert texts == {"resnet18": "10.0", "resnet34": "20.0", "resnet50": ""}
    place = [one.key for one in table.columns].index("latency")
    assert table.rows[0].cells[place].source == "batch 1, float32, eager, a CPU; run bench-resnet18-a CPU"
    assert "a CPU" in column(answers_table(groups, known))[0]


def test_of_equally_many_the_fastest_conditions_are_shown(transfer, detection, latency_run) -> None:
    table, groups, known = networks_of(
        detection(network="resnet18"),
        detection(network="resnet50"),
        latency_run("resnet18", {ONE_IMAGE: 10.0, "openvino float32 batch 1": 4.0, "openvino bfloat16 batch 1": 1.0}),
        latency_run("resnet50", {ONE_IMAGE: 20.0, "openvino float32 batch 1": 8.0, "eager float32 batch 16": 2.0}),
        # A network of no row has no say.
        latency_run("resnet101", {ONE_IMAGE: 1.0}),
    )
    for one in (table, detection_table(groups, known)):
        title, texts = column(one)
        assert title == "latency (ms), batch 1, float32, openvino, a CPU"
        assert texts == {"resnet18": "4.0", "resnet50": "8.0"}


def test_only_runs_that_are_done_and_the_very_network_count(transfer, latency_run) -> None:
    records = [
        transfer(network="resnet50"),
        latency_run("resnet50", {ONE_IMAGE: 20.0}),
        latency_run("resnet50", {ONE_IMAGE: 1.0}, status="failed", name="failed"),
        latency_run("resnet50", {ONE_IMAGE: 2.0}, overrides={"width": 0.1}, name="thin"),
    ]
    assert column(networks_of(*records)[0])[1] == {"resnet50": "20.0"}
    table = latency_table(found(*records))
    _, texts = column(table, "ms")
    assert texts == {"resnet50": "20.00", "resnet50 (width=0.1)": "2.00"}


def test_a_network_with_overrides_has_its_own_latency(transfer, latency_run) -> None:
    thin = transfer(network="resnet50")
    thin.network.overrides = {"width": 0.1}
    table, _, _ = networks_of(thin, latency_run("resnet50", {ONE_IMAGE: 2.0}, overrides={"width": 0.1}))
    assert column(table)[1] == {"resnet50 (width=0.1)": "2.0"}
    table, _, _ = networks_of(thin, latency_run("resnet50", {ONE_IMAGE: 2.0}))
    assert "latency" not in [one.key for one in table.columns]


def test_the_chart_of_latency_tells_its_one_condition(transfer, latency_run, drawn) -> None:
    records = [
        *(transfer(0.6 + place / 10, network=name) for place, name in enumerate(("resnet18", "resnet34", "resnet50"))),
        latency_run("resnet18", {ONE_IMAGE: 10.0}),
        latency_run("resnet34", {ONE_IMAGE: 20.0}),
        latency_run("resnet50", {ONE_IMAGE: 1.0}, device="a large GPU"),
    ]
    charts = drawn(cost_charts, summarise_runs(Reading(tuple(found(*records))), with_costs=False))
    (chart,) = [chart for chart in charts if "latency" in chart.title]
    assert "against latency (ms), batch 1, float32, eager, a CPU." in chart.caption
    assert "GPU" not in chart.caption
    assert chart.rows == ("resnet18@aaaaaaaaaaaa", "resnet34@aaaaaaaaaaaa")


def test_machines_whose_processors_have_one_name_do_not_share_a_column(transfer, latency_run) -> None:
    def on(network, milliseconds, **machine):
        record = latency_run(network, {ONE_IMAGE: milliseconds}, device="AMD EPYC", name=f"{network} {milliseconds}")
        record.hardware = record.hardware.model_copy(update={"usable_cpus": 2, "memory": 8 * 2**30, **machine})
        return record

    rows = [transfer(network=name) for name in ("resnet18", "resnet50")]
    here = [on("resnet18", 10.0), on("resnet50", 20.0)]
    title, texts = column(networks_of(*rows, *here)[0])
    assert title == "latency (ms), batch 1, float32, eager, AMD EPYC"
    title, texts = column(networks_of(*rows, *here, on("resnet50", 5.0, usable_cpus=96, memory=2**40))[0])
    # Only as much is said as tells the two apart.
    assert title == "latency (ms), batch 1, float32, eager, AMD EPYC, 2 CPUs"
    assert texts == {"resnet18": "10.0", "resnet50": "20.0"}
    for other in ({"memory": 2**40}, {"platform": "Linux aarch64"}):
        _, texts = column(networks_of(*rows, *here, on("resnet50", 5.0, **other))[0])
        assert texts == {"resnet18": "10.0", "resnet50": "20.0"}, other
    # A few bytes more are the same machine, started anew.
    _, texts = column(networks_of(*rows, *here, on("resnet50", 5.0, memory=8 * 2**30 + 4096))[0])
    assert texts["resnet50"] != ""
    assert len({row.cells[1].text for row in latency_table(found(*here, on("a", 5.0, memory=8 * 2**30 + 1))).rows}) == 1


def test_a_graphics_card_is_told_from_one_of_its_name_elsewhere(latency_run) -> None:
    records = []
    for processor in ("one CPU", "another CPU"):
        record = latency_run("resnet50", {ONE_IMAGE: 1.0}, device=processor)
        record.hardware = record.hardware.model_copy(update={"accelerators": [Accelerator(name="a GPU")]})
        records.append(record)
    assert {row.cells[1].text for row in latency_table(found(*records)).rows} == {
        "a GPU, one CPU",
        "a GPU, another CPU",
    }
    assert {row.cells[1].text for row in latency_table(found(records[0])).rows} == {"a GPU"}


def test_of_several_measurements_the_latest_is_shown_and_it_says_of_how_many(transfer, latency_run) -> None:
    times = [datetime(2026, 1, day, tzinfo=timezone.utc) for day in (1, 3, 2)]
    records = [
        latency_run("resnet50", {ONE_IMAGE: milliseconds}, name=f"run {place}", created=when, updated=when)
        for place, (milliseconds, when) in enumerate(zip((10.0, 20.0, 30.0), times, strict=True))
    ]
    table, _, _ = networks_of(transfer(network="resnet50"), *records)
    place = [one.key for one in table.columns].index("latency")
    assert table.rows[0].cells[place].text == "20.0"
    assert table.rows[0].cells[place].source.endswith("; the latest of 3 measurements, run run 1")
