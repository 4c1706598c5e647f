"""Charts say what they leave out, and show every number where it stands."""

from __future__ import annotations

import re

from rexdet.report.page.charts import class_charts, cost_charts, transfer_charts
from rexdet.report.page.plans import MOST_SETTINGS
from rexdet.report.records.reading import Reading, read
from rexdet.report.records.states import Found
from rexdet.report.tables.summary import Summary, summarise_runs


def summary_of(*records, with_costs: bool = False) -> Summary:
    found = Reading(tuple(Found(record, str(place)) for place, record in enumerate(records)))
    return summarise_runs(found, with_costs=with_costs)


def test_a_class_chart_says_which_rows_it_leaves_out(detection, written, drawn) -> None:
    records = [detection(0.1 + 0.01 * place, network=f"n{place:02}") for place in range(10)]
    summary = summarise_runs(read([written(*records)]), with_costs=False)
    (chart,) = drawn(class_charts, summary)
    assert len(chart.rows) == 8
    assert "Drawn are the first 8 of 10 rows." in chart.caption
    (few,) = drawn(class_charts, summarise_runs(read([written(*records[:8], below="few")]), with_costs=False))
    assert "Drawn are" not in few.caption


def test_equal_classes_stand_in_the_order_of_their_names(detection, drawn) -> None:
    names = [f"class {place:02}" for place in range(20)]
    record = detection(0.4, per_class={"bbox": {name: {"AP": 0.5} for name in names}})
    (chart,) = drawn(class_charts, summary_of(record))
    labels = [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg) if text in names]
    assert labels == names


def test_more_settings_than_anybody_looks_at_are_told(transfer, drawn) -> None:
    networks = ("resnet18", "resnet50", "resnet101")
    few = {"cars", "pets"}
    # Two settings have one row alone: they give way to those that have three.
    settings = [*few, *(f"set{place}" for place in range(MOST_SETTINGS))]
    records = [
        transfer(0.5 + 0.1 * place, network=network, dataset=dataset)
        for dataset in settings
        for place, network in enumerate(networks if dataset not in few else networks[:1])
    ]
    summary = summary_of(*records, with_costs=True)
    charts = drawn(transfer_charts, summary)
    assert len(charts) == MOST_SETTINGS
    assert not few & {chart.title.split()[0] for chart in charts}
    assert (
        f"Drawn are the {MOST_SETTINGS} settings that most rows have; the tables have all {MOST_SETTINGS + 2}."
        in charts[0].caption
    )
    assert "Drawn are" not in charts[1].caption
    costs = drawn(cost_charts, summary)
    # Against MACs and against parameters.
    assert len(costs) == 2 * MOST_SETTINGS
    assert f"the tables have all {MOST_SETTINGS + 2}." in costs[0].caption
    whole = summary_of(*[record for record in records if "dataset: set" in record.config])
    assert "Drawn are" not in drawn(transfer_charts, whole)[0].caption


def test_costs_far_apart_stand_on_a_logarithmic_axis_with_plain_numbers(transfer, drawn) -> None:
    names = ("rexnet_0.6", "resnext101_32x8d")
    records = [transfer(0.5 + 0.1 * place, network=name) for place, name in enumerate(names)]
    macs, parameters = drawn(cost_charts, summary_of(*records, with_costs=True))
    for chart in (macs, parameters):
        labels = set(re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg))
        assert labels & {"0.1", "0.2", "0.5", "1", "2", "5", "10"}
    assert "mathdefault" not in macs.svg


def test_an_interval_is_drawn_where_there_are_several_seeds(transfer, drawn) -> None:
    (one,) = drawn(transfer_charts, summary_of(transfer(0.9)))
    (several,) = drawn(transfer_charts, summary_of(*[transfer(0.9 + 0.01 * seed, seed) for seed in range(3)]))
    count = lambda chart: len(re.findall(r"<use ", chart.svg))  # noqa: E731
    # The two ends of the bar.
    assert count(several) >= count(one) + 2


def test_long_labels_leave_room_for_the_numbers(transfer, drawn) -> None:
    for name in ("W" * 60, "漢" * 60, "i" * 60):
        (chart,) = drawn(transfer_charts, summary_of(transfer(0.9, network=name), transfer(0.8, network="short")))
        # The axes' box, in points, of 288: what is drawn is cut to it.
        found = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart.svg)
        assert found is not None
        left, width = map(float, found.groups())
        assert 60 < left < 210
        assert width > 60


def test_letters_are_the_pages_in_one_size(transfer, drawn) -> None:
    (chart,) = drawn(transfer_charts, summary_of(transfer(0.9), transfer(0.8, network="resnet18")))
    styles = re.findall(r'<text style="([^"]*)"', chart.svg)
    assert len(styles) > 3
    for style in styles:
        assert "fill: var(--ink)" in style
        assert "var(--font)" in style
        assert re.findall(r"([\d.]+)px", style) == ["8"]


def test_a_row_has_one_colour_in_every_chart(transfer, drawn) -> None:
    names = ("resnet18", "resnet34", "resnet50")
    # The worst is not the same one everywhere, and one data set lacks the first.
    scores = {"cars": (0.5, 0.6, 0.7), "pets": (0.7, 0.6, 0.5), "dtd": (None, 0.4, 0.5)}
    records = [
        transfer(score, network=name, dataset=dataset)
        for dataset, found in scores.items()
        for name, score in zip(names, found, strict=True)
        if score is not None
    ]
    charts = drawn(cost_charts, summary_of(*records, with_costs=True))
    assert len(charts) == 6
    signs = {(entry.row, entry.colour, entry.sign) for chart in charts for entry in chart.legend}
    assert len(signs) == len(names)
    assert len({colour for _, colour, _ in signs}) == len(names)


def test_variants_of_a_row_are_told_apart_by_their_marks(detection, drawn) -> None:
    records = [detection(0.4, freeze_at=freeze_at) for freeze_at in (0, 2)]
    (chart,) = drawn(class_charts, summary_of(*records))
    one, other = chart.legend
    assert (one.row, one.colour) == (other.row, other.colour)
    assert one.sign != other.sign
    assert one.text != other.text


def test_many_series_have_marks_and_colours_of_their_own(transfer, drawn) -> None:
    names = [f"resnet{depth}_cifar" for depth in (8, 14, 20, 26, 32, 38, 44, 50, 56, 62, 110)]
    records = [transfer(0.5 + 0.01 * place, network=name) for place, name in enumerate(names)]
    macs, _ = drawn(cost_charts, summary_of(*records, with_costs=True))
    assert len({(entry.colour, entry.sign) for entry in macs.legend}) == len(names)
