"""The tables that rest on saved detections."""

from __future__ import annotations

import pytest

from rexdet.report.records.reading import read
from rexdet.report.tables.summary import summarise_runs
from rexdet.runs import Network


@pytest.mark.parametrize("name", ["intervals", "errors", "thresholds"])
def test_a_row_is_named_as_in_every_other_table(saved_runs, name: str) -> None:
    tagged = Network(name="rexnet_1.0", sha256="a" * 64, source="rexnet_1.0@nav_in1k", norm="BN")
    saved_runs.run("one", saved_runs.detections(1, 0.9), network=tagged)
    saved_runs.run("other", saved_runs.detections(2, 0.9), network=Network(name="rexnet_1.0", norm="BN"))
    summary = summarise_runs(read([saved_runs.folder]), with_costs=False, resamples=100)

    def named(table: str) -> set[tuple[str, ...]]:
        shown = summary.table(table)
        places = [[column.key for column in shown.columns].index(key) for key in ("network", "checkpoint")]
        return {tuple(row.cells[place].text for place in places) for row in shown.rows}

    assert named(name) == {("rexnet_1.0", "@nav_in1k aaaaaaaaaaaa"), ("rexnet_1.0", "random weights")}
    assert named(name) == named("networks")
