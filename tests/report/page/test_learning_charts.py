"""Learning curves: a chart a setting, entries by name, and every row before further seeds."""

from __future__ import annotations

import json
from pathlib import Path

from rexdet.report.page.charts import MOST_LINES, learning_charts
from rexdet.report.page.plans import MOST_SETTINGS
from rexdet.report.records.reading import Reading, read
from rexdet.report.records.states import Found
from rexdet.report.tables.summary import summarise_runs
from rexdet.runs import Recipe

AP = [{"iteration": step, "holds": "raw", "metrics": {"bbox": {"AP": 0.001 * step}}} for step in (100, 200)]
RETINANET = "MODEL:\n  META_ARCHITECTURE: RetinaNet\n"


def charts_of(drawn, *records):
    found = Reading(tuple(Found(record, str(place)) for place, record in enumerate(records)))
    return drawn(learning_charts, summarise_runs(found, with_costs=False))


def test_settings_have_charts_of_their_own(detection, drawn) -> None:
    records = [detection(0.4, evaluations=AP), detection(0.3, evaluations=AP, config=RETINANET)]
    charts = charts_of(drawn, *records)
    assert [chart.title.split()[4] for chart in charts] == ["faster_rcnn", "retinanet"]
    assert [len(chart.legend) for chart in charts] == [1, 1]
    assert [chart.svg.count('class="mark"') for chart in charts] == [1, 1]


def test_a_backbone_that_stood_still_is_another_line(detection, drawn) -> None:
    records = [detection(0.4, seed, evaluations=AP, freeze_at=freeze_at) for freeze_at in (2, 5) for seed in (0, 1)]
    (chart,) = charts_of(drawn, *records)
    one, other = chart.legend
    assert (one.text, other.text) == ("resnet50@aaaaaaaaaaaa", "resnet50@aaaaaaaaaaaa frozen")
    assert one.colour == other.colour
    assert one.sign != other.sign
    # Both seeds of each, which say which of them they are.
    assert chart.svg.count("stroke-dasharray") == 2
    assert chart.svg.count("frozen, seed 1: ends at 20<") == 1


def test_every_row_is_drawn_before_further_seeds(transfer, drawn) -> None:
    many = [transfer(0.5, seed, network="resnet18") for seed in range(MOST_LINES + 5)]
    few = [transfer(0.5, seed, network=name) for name in ("resnet34", "resnet50") for seed in range(2)]
    (chart,) = charts_of(drawn, *many, *few)
    assert chart.svg.count('class="mark"') == MOST_LINES
    assert {entry.text.partition("@")[0] for entry in chart.legend} == {"resnet18", "resnet34", "resnet50"}
    assert "9 further runs are not drawn." in chart.caption
    (all_of_them,) = charts_of(drawn, *few)
    assert "further" not in all_of_them.caption


def test_heads_of_one_training_are_one_line(transfer, drawn) -> None:
    both = {group: {"top1": 0.5, "mean_per_class": 0.5} for group in ("test_linear", "test_knn")}
    (chart,) = charts_of(drawn, transfer(metrics=both), transfer(metrics=both, seed=1))
    assert chart.svg.count('class="mark"') == 2


def test_a_row_whose_first_run_has_no_curve_is_drawn_with_its_next(transfer, drawn) -> None:
    without = transfer(0.5, 0, evaluations=[], network="resnet18")
    others = [transfer(0.5, seed, network="resnet34") for seed in range(MOST_LINES)]
    (chart,) = charts_of(drawn, without, transfer(0.5, 1, network="resnet18"), *others)
    assert {entry.text.partition("@")[0] for entry in chart.legend} == {"resnet18", "resnet34"}


def test_there_are_no_more_charts_than_anybody_looks_at(transfer, drawn) -> None:
    sets = [f"set{place:02}" for place in range(MOST_SETTINGS + 2)]
    charts = charts_of(drawn, *[transfer(dataset=name) for name in sets])
    assert len(charts) == MOST_SETTINGS
    assert f"the tables have all {MOST_SETTINGS + 2}." in charts[0].caption


def test_logged_losses_of_two_recipes_are_parted(detection, written, drawn) -> None:
    recipes = [Recipe(base_lr=rate, iterations=100, effective_batch=2) for rate in (0.01, 0.02)]
    folder = written(*[detection(0.4, seed, recipe=recipe) for recipe in recipes for seed in (0, 1)])
    for run in folder.iterdir():
        log(run)
    charts = drawn(learning_charts, summarise_runs(read([folder]), with_costs=False))
    assert len({chart.title for chart in charts}) == 2
    for chart in charts:
        assert chart.title.startswith("Detection: training loss, faster_rcnn")
        assert chart.svg.count('class="mark"') == 2
        assert len(chart.legend) == 1


def log(folder: Path) -> None:
    lines = [json.dumps({"step": step, "losses": {"box": 1.0 / step}}) for step in (1, 2, 3)]
    (folder / "steps.jsonl").write_text("\n".join(lines))
