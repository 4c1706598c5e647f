"""The page: what stands in it, what its script decides, and how it looks in a browser where there is one."""

from __future__ import annotations

import base64
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from rexdet.report.page.document import page
from rexdet.report.page.pictures import boxes_of, choose, examples
from rexdet.report.records.reading import read
from rexdet.report.records.saved import curves, saved_runs
from rexdet.report.statistics.calibration import choose_thresholds
from rexdet.report.tables.summary import summarise_runs

# Elements that are not closed.
ALONE = {"meta", "link", "img", "input", "br"}


@pytest.fixture
def summary(two_runs, detection, transfer, written):
    records = [transfer(0.9 + 0.01 * seed, seed=seed, sha=sha) for seed in range(2) for sha in ("a" * 64, None)]
    runs = written(
        *records, detection(0.4), detection(0.3, network="resnet101"), detection(0.2, status="failed", seed=5)
    )
    return summarise_runs(read([*two_runs, runs]), with_costs=False)


@pytest.fixture
def text(summary) -> str:
    return page(summary, summary.filled())


def test_the_page_is_whole_and_asks_for_nothing(text) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert not re.findall(r"url\((?!#)[^)]*\)", text)
    assert "default-src 'none'" in text
    assert not re.search(r"https?:", re.sub(r'xmlns(?::xlink)?="[^"]*"', "", text))


def test_its_elements_are_closed_and_no_name_stands_twice(text) -> None:
    class Parser(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.ids: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.ids += [value for name, value in attrs if name == "id"]
            if tag not in ALONE:
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: Any) -> None:
            self.ids += [value for name, value in attrs if name == "id"]

        def handle_endtag(self, tag: str) -> None:
            if tag not in ALONE:
                assert self.open.pop() == tag

    parser = Parser()
    parser.feed(text)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))


def test_every_run_tells_its_command_environment_and_fate(text) -> None:
    assert "tools/train_det.py --config faster_rcnn --seed 0" in text
    assert "rexdet 0.1.0, torch 2.11.0" in text
    assert "it failed" in text


def test_charts_are_there_and_take_their_colours_from_the_page(text) -> None:
    for section in ("accuracy", "learning", "classes", "recall", "examples", "detection", "transfer", "runs"):
        assert f'id="{section}"' in text, section
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--ink)" in drawings
    assert "#010203" not in drawings
    assert "#4477aa" not in drawings
    assert 'class="mark" data-row="resnet50@aaaaaaaaaaaa"' in drawings
    assert "<text" in drawings


def test_names_are_no_markup(transfer, written) -> None:
    record = transfer(network='<b>"x"&')
    text = page(summarise := summarise_runs(read([written(record)]), with_costs=False), summarise.filled())
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


def test_saved_detections_give_the_curves_of_the_records_ap(summary) -> None:
    found, notes = saved_runs(summary.groups)
    assert {one.run.record.name for one in found} == {"weak", "strong"}
    # The records of `detection` have no folder with detections.
    assert len(notes) == 2
    for one in found:
        at_half = curves(one)[0]
        assert at_half.threshold == 0.5
        assert at_half.precision.mean() == pytest.approx(one.run.record.metrics["bbox"]["AP50"])
        assert (at_half.precision[:-1] >= at_half.precision[1:] - 1e-12).all()


def test_intervals_and_errors_are_those_of_the_saved_detections(summary) -> None:
    intervals = {row.cells[0].text + row.cells[1].text: row for row in summary.table("intervals").rows}
    assert len(intervals) == 2
    for row in intervals.values():
        low, high = (float(end) for end in row.cells[5].text.split(" to "))
        assert low <= row.cells[4].number <= high
    for row in summary.table("errors").rows:
        told = dict(zip((column.key for column in summary.table("errors").columns), row.cells, strict=True))
        # A false alarm a picture, in a corner where nothing is.
        assert told["background"].number == 12
        assert told["right"].number + told["missed"].number + told["localisation"].number >= 33 - 1


def test_thresholds_are_of_the_saved_detections_and_of_the_beta_asked_for(summary) -> None:
    def rows(beta: float) -> list[dict[str, Any]]:
        table = replace(summary, beta=beta).table("thresholds")
        keys = [column.key for column in table.columns]
        return [dict(zip(keys, row.cells, strict=True)) for row in table.rows]

    balanced, recalling = rows(1.0), rows(5.0)
    found = {
        (one.run.record.name, entry.name): entry
        for one in summary.saved[0]
        for entry in choose_thresholds(one.matched).classes
    }
    assert balanced
    for row, other in zip(balanced, recalling, strict=True):
        expected = found[row["run"].text, row["class"].text]
        assert row["threshold"].number == expected.threshold
        for key in ("precision", "recall", "f"):
            share = getattr(expected.held_out, key)
            assert row[key].number == (None if share is None else pytest.approx(100 * share)), key
        assert other["threshold"].number <= row["threshold"].number
    assert "F5 (%)" in page(replace(summary, beta=5.0), [replace(summary, beta=5.0).table("thresholds")])


def test_detections_that_do_not_give_their_records_ap_are_not_shown(saved_runs, tmp_path) -> None:
    folder = saved_runs.run("changed", saved_runs.detections(1, 0.5))
    saved_runs.detections(2, 0.9).save(folder / "detections.json")
    from rexdet.report.records.saved import saved_runs as open_saved

    found, notes = open_saved(summarise_runs(read([folder]), with_costs=False).groups)
    assert found == []
    assert "no longer give the AP of its record" in notes[0]


def test_pictures_show_false_and_missed_objects_of_every_class_first(summary) -> None:
    found, _ = saved_runs(summary.groups)
    shown, _ = examples(found, 2**20)
    weak = [example for example in shown if example.row.endswith("a" * 12)]
    assert {"false", "missed"} <= {kind for example in weak[:2] for kind in example.kinds}
    for example in shown:
        assert set(example.kinds) == {part.split(":")[0] for part in example.told.split("; ")}
        assert base64.b64decode(example.data.partition(",")[2])[:2] == b"\xff\xd8"
        assert max(example.size) == 320


def test_pictures_take_no_more_room_than_they_are_given(summary) -> None:
    found, _ = saved_runs(summary.groups)
    shown, notes = examples(found, 40_000)
    assert 0 < sum(len(example.data) for example in shown) <= 40_000
    assert "room" in notes[-1]


def test_missed_and_false_are_told_by_matches(saved_runs) -> None:
    from rexdet.coco.ground_truth import read_ground_truth
    from rexdet.coco.matched import match_once

    matched = match_once(read_ground_truth(saved_runs.annotations), saved_runs.detections(1, 1.0))
    boxes = boxes_of(matched)
    kinds = [box.kind for found in boxes.values() for box in found]
    sure = matched.scores >= 0.5
    assert kinds.count("right") + kinds.count("false") == int(sure.sum())
    assert kinds.count("right") + kinds.count("missed") == len(matched.truth)
    assert len(choose(boxes, 3)) == 3


def test_sorting_puts_what_is_empty_last_and_keeps_equal_ones(script) -> None:
    assert script('sortedPlaces(["3","","10","2"], true, true)') == [2, 0, 3, 1]
    assert script('sortedPlaces(["3","","10","2"], true, false)') == [3, 0, 2, 1]
    assert script('sortedPlaces(["b","","a","a"], false, false)') == [2, 3, 0, 1]
    assert script('sortedPlaces(["-1","0","-2.5e1"], true, false)') == [2, 0, 1]


def test_filtering_takes_words_in_any_order(script) -> None:
    assert script('matches("ours ResNet50 retinanet", "RETINA ours")') is True
    assert script('matches("ours ResNet50 retinanet", "faster")') is False
    assert script('matches("anything", "  ")') is True


def test_pictures_are_filtered_by_row_class_and_kind(script) -> None:
    # Its cat is found, its dog is missed.
    picture = '{row: "a", marks: [["cat", "right"], ["dog", "missed"]]}'
    for chosen, shown in (
        ('{row: "", name: "", kind: ""}', True),
        ('{row: "a", name: "dog", kind: "missed"}', True),
        ('{row: "a", name: "cat", kind: ""}', True),
        ('{row: "a", name: "", kind: "missed"}', True),
        ('{row: "b", name: "", kind: ""}', False),
        ('{row: "", name: "yeti", kind: ""}', False),
        ('{row: "", name: "", kind: "false"}', False),
        ('{row: "", name: "cat", kind: "missed"}', False),
        ('{row: "", name: "dog", kind: "right"}', False),
    ):
        assert script(f"isShown({picture}, {chosen})") is shown, chosen


def test_a_picture_on_the_page_tells_class_and_kind_together(summary, text) -> None:
    marks = [json.loads(html.unescape(found)) for found in re.findall(r'data-marks="([^"]*)"', text)]
    shown, _ = examples(saved_runs(summary.groups)[0], 4 * 2**20)
    assert marks == [[list(mark) for mark in example.marks] for example in shown]
    for example in shown:
        # "false: cat 0.83", "missed: dog".
        told = [re.fullmatch(r"(\w+): (\w+)( [\d.]+)?", part) for part in example.told.split("; ")]
        assert set(example.marks) == {(part[2], part[1]) for part in told if part}


def test_in_a_browser(browser, text, tmp_path) -> None:
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    assert browser.get_log("browser") == []
    ask = browser.execute_script
    assert ask("return document.querySelectorAll('svg').length") >= 4
    assert ask("return document.querySelector('svg').getBoundingClientRect().height") > 50

    # Sorting: numbers by value, best first, empty ones last.
    column = "#detection th.number button"
    values = (
        "return Array.from(document.querySelectorAll('#detection tbody tr'))"
        ".map((row) => row.cells[arguments[0]].dataset.value)"
    )
    place = ask(f"return document.querySelector('{column}').closest('th').cellIndex")
    browser.find_element("css selector", column).click()
    found = ask(values, place)
    numbers = [float(value) for value in found if value]
    assert numbers == sorted(numbers, reverse=True)
    assert found[: len(numbers)] == [value for value in found if value]
    browser.find_element("css selector", column).click()
    assert [float(value) for value in ask(values, place) if value] == sorted(numbers)

    # Filtering.
    browser.find_element("css selector", "#transfer input").send_keys("weights random")
    visible = ask(
        "return Array.from(document.querySelectorAll('#transfer tbody tr')).filter((row) => !row.hidden).length"
    )
    assert visible == 1
    for select in (2, 1):
        ask(
            "const s = document.querySelectorAll('#examples select')[arguments[0]]; s.selectedIndex = 1;"
            "s.dispatchEvent(new Event('change'))",
            select,
        )
    shown = ask(
        "return Array.from(document.querySelectorAll('#examples figure')).filter((f) => !f.hidden)"
        ".map((f) => f.dataset.marks)"
    )
    assert shown
    assert all(["cat", "right"] in json.loads(marks) for marks in shown)

    # A row that is clicked is marked wherever it stands.
    ask("document.querySelector('#transfer tbody tr').click()")
    assert ask("return document.querySelectorAll('.mark.picked').length") > 0
    assert browser.get_log("browser") == []


def test_it_can_be_read_on_a_telephone_in_the_dark_and_printed(browser, text, tmp_path) -> None:
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get((tmp_path / "index.html").as_uri())
    # Wide tables scroll within themselves; the page does not.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground))) < 150
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")
    assert len(printed) > 20_000
    assert browser.get_log("browser") == []
