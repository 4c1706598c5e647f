"""How the page is laid out in a browser: what stays in sight, what is folded, and that nothing is cut or too wide."""

from __future__ import annotations

import pytest

from rexdet.report.page.document import page
from rexdet.report.records.reading import read
from rexdet.report.tables.summary import summarise_runs
from rexdet.report.tables.table import Cell, Column, Row, Table
from rexdet.runs import Network, Recipe

LONG = "schedule: x0.1 at epochs 8, 11 there, x0.1 at 60000, 80000 here; " * 12


def table(name: str, words: dict[str, str], numbers: int = 0, rows: int = 3) -> Table:
    """A table of equal rows, but for a number at the end of their words."""
    columns = [Column(key, key) for key in words] + [
        Column(f"n{place}", f"AP (%) {place}", "%") for place in range(numbers)
    ]
    made = []
    for row in range(rows):
        cells = [Cell(f"{text} {row}") for text in words.values()]
        made.append(Row(str(row), (*cells, *[Cell(f"{row}.25 ± 0.10", row + 0.25)] * numbers)))
    return Table(name, name, tuple(columns), tuple(made))


def visible_columns(browser, name: str) -> list[str]:
    """The titles of columns whose cells of the last row are whole in sight, with nothing over them."""
    return browser.execute_script(
        """
        const scroll = document.querySelector(`#${arguments[0]} .scroll`);
        const frame = scroll.getBoundingClientRect();
        const cells = Array.from(scroll.querySelector("tbody").rows).at(-1).cells;
        return Array.from(scroll.querySelectorAll("th")).filter((head, place) => {
          const cell = cells[place], box = cell.getBoundingClientRect();
          if (box.left < frame.left || box.right > frame.right + 1) return false;
          return [box.left + 3, box.right - 3].every((x) => cell.contains(document.elementFromPoint(x, box.top + 8)));
        }).map((head) => head.textContent);
        """,
        name,
    )


def scrolled(browser, name: str, left: int, top: int) -> None:
    browser.execute_script(
        "const s = document.querySelector(`#${arguments[0]}`); s.scrollIntoView();"
        "s.querySelector('.scroll').scrollTo(arguments[1], arguments[2]);",
        name,
        left,
        top,
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_titles_of_a_tall_table_stay_in_sight(opened, width) -> None:
    browser = opened(table("runs", {"run": "a-run", "kind": "transfer"}, rows=120), width=width)
    scrolled(browser, "runs", 0, 2000)
    top, head, height, window = browser.execute_script(
        "const s = document.querySelector('.scroll'), top = (element) => element.getBoundingClientRect().top;"
        "return [top(s), top(s.querySelector('th')), s.offsetHeight, innerHeight]"
    )
    assert 0 <= head - top <= 2
    assert height < window


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("networks", {"network": "resnext50_32x4d", "checkpoint": "@d2_msra_in1k f402ada78ead"}),
        (
            "pairs",
            {
                "setting": "AP faster_rcnn coco-val2017 detectron2_1x",
                "one": "resnext50_32x4d@0336fe11b6ec frozen",
                "other": "resnext50_32x4d@0336fe11b6ec (BN)",
            },
        ),
    ],
)
def test_whose_row_it_is_stays_in_sight(opened, name, words, width) -> None:
    browser = opened(table(name, words, numbers=20), width=width)
    scrolled(browser, name, 99_999, 0)
    shown = visible_columns(browser, name)
    assert shown[: len(words)] == list(words)
    # And there is room for a number beside them.
    assert len(shown) > len(words)


def test_what_is_stuck_follows_when_columns_become_wider(opened) -> None:
    words = {"network": "resnet50", "checkpoint": "random"}
    browser = opened(table("networks", words, numbers=20))
    browser.execute_script(
        "document.querySelector('#networks tbody td').textContent = 'a_much_longer_name_of_a_network'"
    )
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    scrolled(browser, "networks", 700, 0)
    assert visible_columns(browser, "networks")[:2] == list(words)


@pytest.mark.parametrize("width", [1280, 400])
def test_a_long_cell_is_folded_and_opens_on_the_keyboard(opened, width) -> None:
    browser = opened(table("published", {"network": "resnet50", "differs": LONG}, rows=6), width=width)
    measure = (
        "const cell = document.querySelector('.folded');"
        "return [cell.closest('tr').offsetHeight, cell.scrollHeight - cell.clientHeight]"
    )
    height, hidden = browser.execute_script(measure)
    assert height < 130
    assert hidden > 0
    assert browser.execute_script("return document.querySelector('.folded').closest('td').title").startswith(LONG)
    browser.execute_script("document.querySelector('th:last-child button').focus()")
    browser.switch_to.active_element.send_keys("\t")
    assert browser.execute_script("return document.activeElement.className") == "folded"
    opened_height, hidden = browser.execute_script(measure)
    assert opened_height > 1.5 * height
    assert hidden == 0


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    "text", ["published: detectron2, MODEL_ZOO.md, Comparisons with Detectron1", "W" * 90, "漢" * 40]
)
def test_no_cell_of_words_is_cut(opened, text, width) -> None:
    browser = opened(table("detection", {"network": "resnet50", "from": text}, numbers=20), width=width)
    cut = browser.execute_script(
        "return Array.from(document.querySelectorAll('td')).filter((c) => c.scrollWidth > c.clientWidth + 1).length"
    )
    assert cut == 0


def test_long_names_do_not_make_the_page_wider_than_a_telephone(opened, saved_runs) -> None:
    name = "rexnet_1.0_with_a_long_name_of_its_own"
    runs = [
        saved_runs.run(
            f"run_{place}_of_a_name_without_any_space_in_it_whatsoever",
            saved_runs.detections(place, 0.5),
            network=Network(name=name, sha256="a" * 64, norm="BN"),
            recipe=Recipe(base_lr=0.01 * (1 + place), iterations=100),
        )
        for place in range(2)
    ]
    summary = summarise_runs(read(runs), with_costs=False)
    browser = opened(page(summary, summary.filled()), width=400)
    assert (
        browser.execute_script("return document.querySelector('#examples select option:last-child').textContent.length")
        > 60
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400


def test_columns_stick_from_the_left_as_far_as_there_is_room(script) -> None:
    assert script("stuckColumns([100, 80, 60], 250)") == [0, 100, 180]
    assert script("stuckColumns([100, 200, 60], 250)") == [0, None, 100]
    assert script("stuckColumns([300, 10], 250)") == [0, None]
