"""The engines' pipelines beside each other, as one report."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

from tabulate import tabulate

from rexdet.bench.engines.cost import Cost, measure_cost
from rexdet.bench.engines.steps import Difference, Kind, measure_kinds, measure_steps
from rexdet.bench.engines.ways import check_installed, mmdet_scope

_KINDS_TITLE = (
    "Kinds of picture files, largest difference in grey levels: between the engines as rexdet runs them,\n"
    "and of each engine's own reading from that:"
)


@dataclass(frozen=True)
class EngineReport:
    """What differs between the engines from the same file, and the AP that it costs."""

    steps: list[Difference]
    kinds: list[Kind]
    costs: list[Cost]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {**asdict(self), "costs": [{**asdict(cost), "difference": cost.difference} for cost in self.costs]}

    def as_text(self) -> str:
        """The report for a person."""
        steps = [
            (row.step, row.detectron2, row.mmdetection, _number(row.largest), _number(row.mean), row.unit, row.note)
            for row in self.steps
        ]
        kinds = [(row.kind, _number(row.here), row.detectron2_alone, row.mmdetection_alone) for row in self.kinds]
        costs = [
            (
                f"{row.size} px",
                f"{row.largest:.0f}",
                f"{row.mean:.2f}",
                f"{100 * row.detectron2:.2f}",
                f"{100 * row.mmdetection:.2f}",
                f"{100 * row.difference:+.2f}",
            )
            for row in self.costs
        ]
        return "\n\n".join(
            [
                "One picture file through both engines, step by step, each step from the same input:",
                _table(steps, ("step", "detectron2", "MMDetection", "largest", "mean", "unit", "")),
                _KINDS_TITLE,
                _table(kinds, ("file", "here", "detectron2's own", "MMDetection's own")),
                "One detector of rexdet on the embedded validation set, with the pixels of each (box AP, percent):",
                _table(
                    costs, ("input", "largest", "mean", "detectron2's pixels", "MMDetection's pixels", "difference")
                ),
            ]
        )


def compare_engines() -> EngineReport:
    """Measure everything; under a minute on two cores. Raises UserError where an engine is missing."""
    check_installed()
    from rexdet.session.data import files_by_name, open_split

    files = files_by_name("embedded_val")
    assert files is not None
    dataset = open_split(files, "evaluate")
    with warnings.catch_warnings(), mmdet_scope():
        # mmengine asks setuptools for what setuptools is about to drop; it is pinned.
        warnings.simplefilter("ignore")
        return EngineReport(measure_steps(dataset), measure_kinds(), measure_cost(dataset))


def _table(rows: list[Any], headers: tuple[str, ...]) -> str:
    return tabulate(rows, headers=headers, disable_numparse=True)


def _number(value: float | None) -> str:
    if value is None:
        return "sizes differ"
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"
