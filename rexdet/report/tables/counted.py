"""What the listed networks cost, counted once and kept beside this file, so that a table need not build them.

A table of ten thousand runs is then made without importing torch. A test counts anew and compares; `python -m
rexdet.report.tables.counted` writes the file after a network was added or its count has changed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from rexdet.files import write_text_atomically

FILE = Path(__file__).with_name("counted.json")
# Parameters, multiply-accumulates, side of the image in pixels.
Counted = tuple[int, int, int]


@cache
def read_counted() -> dict[str, Counted]:
    """Zoo name, without a tag -> its counts, of every listed network that needs no file of somebody else's."""
    return {name: (row[0], row[1], row[2]) for name, row in json.loads(FILE.read_text(encoding="utf-8")).items()}


def count_listed() -> dict[str, Counted]:
    """The same, counted now: every network is built and executed without numbers in it."""
    from rexdet.zoo.costs import NEEDS_A_FILE, cost_of
    from rexdet.zoo.registry import list_models

    found = {}
    for name in sorted(set(list_models()) - set(NEEDS_A_FILE)):
        cost = cost_of(name)
        found[name] = (cost.parameters, cost.macs, cost.size)
    return found


def write_counted() -> None:
    """Count, and write the file anew."""
    rows = [f"  {json.dumps(name)}: {json.dumps(list(row))}" for name, row in count_listed().items()]
    write_text_atomically(FILE, "{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    write_counted()
