"""Charts say what they leave out, and show every number where it stands."""

from __future__ import annotations

import re

from rexdet.report.page.charts import MOST_SETTINGS, class_charts, cost_charts, transfer_charts
from rexdet.report.records.reading import Reading, read
from rexdet.report.records.states import Found
from rexdet.report.tables.summary import Summary, summarise_runs


def summary_of(*records, with_costs: bool = False) -> Summary:
    found = Reading(tuple(Found(record, str(place)) for place, record in enumerate(records)))
    return summarise_runs(found, with_costs=with_costs)


def test_a_class_chart_says_which_rows_it_leaves_out(detection, written) -> None:
    records = [detection(0.1 + 0.01 * place, network=f"n{place:02}") for place in range(10)]
    summary = summarise_runs(read([written(*records)]), with_costs=False)
    (chart,) = class_charts(summary)
    assert len(chart.rows) == 8
    assert "Drawn are the first 8 of 10 rows." in chart.caption
    (few,) = class_charts(summarise_runs(read([written(*records[:8], below="few")]), with_costs=False))
    assert "Drawn are" not in few.caption


def test_more_settings_than_anybody_looks_at_are_told(transfer) -> None:
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
    drawn = transfer_charts(summary)
    assert len(drawn) == MOST_SETTINGS
    assert not few & {chart.title.split()[0] for chart in drawn}
    assert f"Drawn are the {MOST_SETTINGS} settings that most rows have; the tables have all 14." in drawn[0].caption
    assert "Drawn are" not in drawn[1].caption
    costs = cost_charts(summary)
    # Against MACs and against parameters.
    assert len(costs) == 2 * MOST_SETTINGS
    assert "the tables have all 14." in costs[0].caption
    whole = summary_of(*[record for record in records if "dataset: set" in record.config])
    assert "Drawn are" not in transfer_charts(whole)[0].caption


def test_costs_far_apart_stand_on_a_logarithmic_axis_with_plain_numbers(transfer) -> None:
    records = [transfer(0.5 + 0.1 * place, network=name) for place, name in enumerate(("resnet20_cifar", "resnet50"))]
    macs, parameters = cost_charts(summary_of(*records, with_costs=True))
    for chart in (macs, parameters):
        labels = set(re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg))
        assert labels & {"0.1", "0.2", "0.5", "1", "2", "5", "10"}
    assert "mathdefault" not in macs.svg


def test_an_interval_is_drawn_where_there_are_several_seeds(transfer) -> None:
    (one,) = transfer_charts(summary_of(transfer(0.9)))
    (several,) = transfer_charts(summary_of(*[transfer(0.9 + 0.01 * seed, seed) for seed in range(3)]))
    count = lambda chart: len(re.findall(r"<use ", chart.svg))  # noqa: E731
    # The two ends of the bar.
    assert count(several) >= count(one) + 2


def test_long_labels_leave_room_for_the_numbers(transfer) -> None:
    for name in ("W" * 60, "漢" * 60, "i" * 60):
        (chart,) = transfer_charts(summary_of(transfer(0.9, network=name), transfer(0.8, network="short")))
        # The axes' box, in points, of 288: what is drawn is cut to it.
        found = re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart.svg)
        assert found is not None
        left, width = map(float, found.groups())
        assert 60 < left < 210
        assert width > 60
