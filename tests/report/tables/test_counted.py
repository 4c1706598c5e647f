"""The counts that tables take from a file are those of the networks."""

from __future__ import annotations

import subprocess
import sys

from rexdet.report.records.facts import RowKey
from rexdet.report.tables.costs import Cost, Rule, count_costs
from rexdet.report.tables.counted import FILE, count_listed, read_counted
from rexdet.runs import Network


def test_the_kept_counts_are_those_of_the_networks() -> None:
    assert read_counted() == count_listed(), f"{FILE.name} is not up to date: python -m rexdet.report.tables.counted"


def test_a_network_that_is_not_listed_is_counted() -> None:
    names = ("rexnet_1.0", "rexnet_0.37", "timm:no_such")
    found = count_costs({RowKey(name): [Network(name=name)] for name in names})
    assert "rexnet_0.37" not in read_counted()
    assert found["rexnet_1.0"] == Cost(4_796_873, 398_370_392, Rule(224), "counted for this table")
    assert found["rexnet_0.37"].parameters < found["rexnet_1.0"].parameters
    assert "timm:no_such" not in found


def test_listed_networks_are_told_without_torch() -> None:
    code = (
        "import sys\nfrom rexdet.report.tables.costs import count_costs\n"
        "from rexdet.report.records.facts import RowKey\nfrom rexdet.runs import Network\n"
        "assert count_costs({RowKey('rexnet_1.0'): [Network(name='rexnet_1.0')]})\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
