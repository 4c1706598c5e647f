"""The table of a transfer run: ours beside what is printed, an interval only where runs were repeated."""

from __future__ import annotations

import pytest

from rexdet.report.tables.transfer import Cell, as_json, table


def cell(**changes) -> Cell:
    values = {"dataset": "flowers102", "network": "resnet50", "protocol": "fine_tune", "metric": "mean_per_class"}
    return Cell(**{**values, "scores": (0.95,), "repeated": "the final run", "fixed": "the split.", **changes})


def test_printed_numbers_of_the_same_cell_stand_beside_ours() -> None:
    text = table([cell()])
    ours, *published = [line for line in text.splitlines() if line.startswith(("| ours", "| published"))]
    assert "95.00" in ours
    assert "±" not in text
    # Table B.5 of the SimCLR paper, mean per class; the ReXNet paper's top-1 of the same set is another metric.
    assert any("97.6" in line and "Table B.5" in line for line in published)
    assert not any("97.7" in line for line in published)
    assert "no difference is taken" in text


def test_printed_errors_stand_as_accuracies() -> None:
    text = table([cell(network="resnext29_8x64d_cifar", dataset="cifar10", protocol="cifar", metric="top1")])
    (line,) = [line for line in text.splitlines() if line.startswith("| published")]
    # 3.65% error, Table 7 of the ResNeXt paper.
    assert "96.35" in line
    assert "Table 7" in line


def test_nothing_printed_is_said() -> None:
    text = table([cell(network="rexnet_1.0", dataset="dtd", metric="top1")])
    assert "Nothing that we know of is printed of rexnet_1.0 on dtd." in text
    assert "| published" not in text
    assert table([cell(dataset="aircraft:family")]).count("| published") == 0


def test_several_runs_say_what_was_repeated() -> None:
    text = table([cell(scores=(0.90, 0.92, 0.94))])
    assert "92.00 ± 4.97" in text
    assert "over 3 runs. Repeated with another seed: the final run. The same in all: the split." in text
    assert "One run has no interval" in table([cell()])
    assert "Nothing is random here" in table([cell(repeated="")])


def test_json_holds_fractions() -> None:
    (row,) = as_json([cell(scores=(0.90, 0.92))])
    assert row["mean"] == pytest.approx(0.91)
    assert row["interval"] == pytest.approx([0.91 - 12.7062 * 0.01, 0.91 + 12.7062 * 0.01], abs=1e-4)
    assert {found["value"] for found in row["published"]} >= {0.976}
