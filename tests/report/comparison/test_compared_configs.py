"""Configurations in YAML with values that JSON does not have: they are compared as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from rexdet.report.comparison.differences import run_differences
from rexdet.runs import RunRecord

Compare = Callable[..., tuple[int, str, str]]


def differences(one: str, other: str) -> list[tuple[str, Any, Any]]:
    records = [RunRecord(kind="detection", name="x", engine="detectron2", config=config) for config in (one, other)]
    found = run_differences(records[0], records[1])
    json.dumps([entry.as_json() for entry in found], allow_nan=False)
    return [(entry.field, entry.one, entry.other) for entry in found]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("when: 2026-01-02\n", "when: 2026-01-03\n", [("when", "2026-01-02", "2026-01-03")]),
        ("when: 2026-01-02\n", "when: '2026-01-02'\n", []),
        ("when: 2026-99-99\n", "when: 2026-99-99\n", []),
        ("when: !!timestamp 2026-99-99\n", "when: 1\n", [("when", "2026-99-99", 1)]),
        ("x: .nan\n", "x: .nan\n", []),
        ("x: .nan\n", "x: .inf\n", [("x", "nan", "inf")]),
        ("x: [1, .inf]\n", "x: [1, 2]\n", [("x", [1, "inf"], [1, 2])]),
        ("x: !!set {b, a}\n", "x: [a, b]\n", []),
        ("x: !!binary aGk=\n", "x: 1\n", [("x", "b'hi'", 1)]),
        ("1: a\n", "1: b\n", [("1", "a", "b")]),
        # What cannot be told so is told line by line.
        ("a: &x {b: *x}\n", "a: 1\n", [("line 1", "a: &x {b: *x}", "a: 1")]),
        (f"a: 1{'0' * 5000}\n", "a: 1\n", [("line 1", f"a: 1{'0' * 5000}", "a: 1")]),
    ],
)
def test_values_that_json_does_not_have_are_text(one: str, other: str, expected: list[Any]) -> None:
    assert differences(one, other) == expected


@pytest.mark.parametrize("value", ["2026-01-02", ".nan", "2026-99-99", "-.inf"])
def test_such_runs_are_compared(saved_runs: Any, compare: Compare, value: str) -> None:
    runs = [
        saved_runs.run(name, saved_runs.detections(seed, 0.6), config=f"MODEL:\n  DEPTH: 18\nwhen: {config}\n")
        for name, seed, config in (("one", 1, value), ("other", 2, "1"))
    ]
    for words in ((), ("--json",), ("--whole",)):
        status, out, err = compare(*runs, *words, "--resamples", "100", "--pictures", "0")
        assert (status, err) == (0, "")
        assert value.replace(".", "") in out


def test_a_name_that_no_disk_takes_is_one_line(saved_runs: Any, compare: Compare) -> None:
    run = saved_runs.run("one", saved_runs.detections(1, 0.5))
    for pair in ((run, "x" * 300), ("x" * 300, run)):
        status, out, err = compare(*pair)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "longer than this disk takes" in err
