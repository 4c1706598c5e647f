"""The tables of docs/studies.md are those that the tool prints from the records kept beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexdet.runs import read_record
from rexdet.studies.outcome import from_records, read_records


@pytest.mark.parametrize("study", ["lwdna", "nm_relu"])
def test_the_page_shows_what_the_kept_records_say(repository: Path, study: str) -> None:
    page = (repository / "docs" / "studies.md").read_text()
    begin, end = f"<!-- begin {study} -->", f"<!-- end {study} -->"
    shown = page.split(begin)[1].split(end)[0]
    assert shown.strip() == from_records(study, read_records(repository / "docs" / "studies" / study)).text().strip()


@pytest.mark.parametrize("study", ["lwdna", "nm_relu"])
def test_the_kept_records_name_no_machine_and_have_five_seeds(repository: Path, study: str) -> None:
    paths = sorted((repository / "docs" / "studies" / study / "records").glob("*.json"))
    records = [read_record(path) for path in paths]
    assert {record.seed for record in records} >= set(range(5))
    assert all(record.process is None and record.files == {} for record in records)
    # Paths as typed, from the folder that the data lay in.
    assert all(not word.startswith("/") for record in records for word in record.command)
