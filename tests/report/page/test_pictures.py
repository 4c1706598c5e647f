"""Example pictures say whose they are, and which of them cannot be shown."""

from __future__ import annotations

from rexdet.report.page.pictures import examples
from rexdet.report.page.plans import Palette
from rexdet.report.page.saved_charts import calibration_charts, recall_charts
from rexdet.report.records.reading import read
from rexdet.report.tables.summary import summarise_runs
from rexdet.runs import Network, Recipe


def saved_of(*folders):
    """The saved runs, and the palette of their page."""
    summary = summarise_runs(read(folders), with_costs=False)
    return summary.saved[0], Palette(summary)


def test_a_row_of_several_settings_is_named_with_each(saved_runs) -> None:
    one = saved_runs.run("one", saved_runs.detections(1, 0.5))
    other = saved_runs.run("other", saved_runs.detections(2, 0.5), recipe=Recipe(base_lr=0.02, iterations=100))
    saved, palette = saved_of(one, other)
    shown, notes = examples(saved, 2**22)
    assert notes == []
    titles = [entry.setting.title for entry in saved]
    assert len(set(titles)) == 2
    assert {picture.row for picture in shown} == {f"rexnet_1.0@aaaaaaaaaaaa, {title}" for title in titles}
    shown, _ = examples(saved[:1], 2**22)
    assert {picture.row for picture in shown} == {"rexnet_1.0@aaaaaaaaaaaa"}
    for planned in (recall_charts, calibration_charts):
        charts = [plan() for plan in planned(saved, palette)]
        assert [len(chart.legend) > 0 for chart in charts] == [True, True]


def test_a_backbone_that_stood_still_is_named_so(saved_runs) -> None:
    networks = [Network(name="rexnet_1.0", sha256="a" * 64, norm="FrozenBN", freeze_at=stages) for stages in (2, 5)]
    folders = [
        saved_runs.run(f"run{place}", saved_runs.detections(place, 0.5), network=network)
        for place, network in enumerate(networks)
    ]
    saved, palette = saved_of(*folders)
    shown, _ = examples(saved, 2**22)
    names = {"rexnet_1.0@aaaaaaaaaaaa", "rexnet_1.0@aaaaaaaaaaaa frozen"}
    assert {picture.row for picture in shown} == names
    (chart,) = [plan() for plan in calibration_charts(saved, palette)]
    assert {entry.text for entry in chart.legend} == names
    assert len({entry.colour for entry in chart.legend}) == 2


def test_a_picture_that_cannot_be_read_is_told(saved_runs) -> None:
    run = saved_runs.run("run", saved_runs.detections(1, 0.5))
    (saved_runs.pictures / "1.png").write_bytes(b"no picture")
    saved, _ = saved_of(run)
    shown, (note,) = examples(saved, 2**22)
    assert "1.png" not in {picture.title for picture in shown}
    assert note.startswith("a picture is not shown:")
    assert "1.png" in note
