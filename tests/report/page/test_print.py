"""The page on paper: words and numbers whole, whatever the width of a table, with a script and without one."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rexdet.report.tables.table import Cell, Column, Row, Table

NETWORKS = ("resnet50", "resnext50_32x4d", "efficientvit_b1.r224")
CHECKPOINT = "@d2_msra_in1k f402ada78ead"


def broad(rows: int = len(NETWORKS), numbers: int = 24) -> Table:
    """A table as wide as that of the networks, in which every number is another one."""
    columns = [Column("network", "network"), Column("checkpoint", "checkpoint")]
    columns += [Column(f"n{place}", f"top-1 (%) dataset{place:02} from_scratch", "%") for place in range(numbers)]
    made = []
    for row in range(rows):
        name = NETWORKS[row] if rows <= len(NETWORKS) else f"network_{row:04}"
        found = [Cell(f"{row + 10}.{place:02} ± 0.{place:02}", float(place)) for place in range(numbers)]
        made.append(Row(str(row), (Cell(name), Cell(CHECKPOINT), *found)))
    return Table("networks", "Networks", tuple(columns), tuple(made))


@pytest.fixture
def printed(tmp_path) -> Callable[[Any], str]:
    """What stands on the paper that a browser prints."""
    program = shutil.which("pdftotext")
    if program is None:
        pytest.skip("no pdftotext on this machine (Debian: apt install poppler-utils)")

    def read(browser: Any) -> str:
        found = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        path: Path = tmp_path / "page.pdf"
        path.write_bytes(base64.b64decode(found["data"]))
        return subprocess.run([program, "-layout", path, "-"], capture_output=True, text=True, check=True).stdout

    return read


@pytest.fixture
def without_script(browser) -> Iterator[None]:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def is_whole(text: str, table: Table) -> None:
    for row in table.rows:
        assert row.cells[0].text in text
        for cell in row.cells[2:]:
            assert re.search(rf"(?<!\S){re.escape(cell.text)}(?!\S)", text), cell.text


def test_names_and_numbers_of_a_broad_table_are_whole(opened, printed) -> None:
    text = printed(opened(table := broad()))
    is_whole(text, table)
    # Every part of it says whose its rows are: each has the number of a column.
    parts = len(re.findall(r"^ *network +checkpoint", text, re.MULTILINE))
    assert 1 < parts < 6
    for row in table.rows:
        assert len(re.findall(rf"^ *{re.escape(row.cells[0].text)} .*\d ± 0\.\d\d", text, re.MULTILINE)) == parts
    assert text.count("\f") == 1


def test_a_broad_table_is_whole_without_a_script(opened, without_script, printed) -> None:
    text = printed(opened(table := broad()))
    is_whole(text, table)
    assert text.count("dataset07 from_scratch: ") == len(table.rows)


def test_of_a_long_table_the_first_rows_are_printed_and_that_is_said(opened, printed) -> None:
    text = printed(opened(broad(130, 2)))
    assert "Printed are the first 100 of 130 rows." in " ".join(text.split())
    assert "network_0099" in text
    assert "network_0100" not in text


def test_of_a_long_table_the_first_rows_are_printed_without_a_script(opened, without_script, printed) -> None:
    text = printed(opened(broad(130, 2)))
    assert "Printed are the first 100 of 130 rows." in " ".join(text.split())
    assert "network_0099" in text
    assert "network_0100" not in text


def test_what_is_filtered_and_sorted_is_printed_so(opened, printed) -> None:
    browser = opened(broad(130, 2))
    browser.find_element("css selector", "#networks input").send_keys("network_012")
    browser.find_element("css selector", "#networks th button").click()
    browser.find_element("css selector", "#networks th button").click()
    text = printed(browser)
    assert re.findall(r"network_0\d\d\d", text) == [f"network_0{number}" for number in range(129, 119, -1)]
    assert 'those that have the words "network_012"' in text
    # The screen has the table as before.
    assert browser.execute_script("return document.querySelectorAll('table').length") == 1


def test_legends_that_are_folded_on_the_screen_are_printed(opened, printed) -> None:
    browser = opened(broad())
    browser.execute_script(
        "document.querySelector('main').insertAdjacentHTML('beforeend',"
        "'<details><summary>what is what</summary>the_ninth_name</details>')"
    )
    assert "the_ninth_name" in printed(browser)
    assert browser.execute_script("return document.querySelector('details').open") is False


def test_columns_are_shared_out_evenly_beside_those_that_say_whose_row_it_is(script) -> None:
    assert script("sheetsOf([10, 10, 10], [0], 30)") == [[0, 1, 2]]
    assert script("sheetsOf([10, 10, 10, 10, 10], [0], 40)") == [[0, 1, 2], [0, 3, 4]]
    # A column as wide as the sheet, and one of whose that stands in the middle.
    assert script("sheetsOf([10, 90, 10, 10], [0, 2], 60)") == [[0, 1, 2], [0, 2, 3]]
