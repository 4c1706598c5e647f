"""The columns of costs: what one of them holds is of one image size, one kind of classifier and one set of conditions.

What was counted or measured otherwise is a dash that says how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rexdet.report.records.facts import RowKey
from rexdet.report.records.groups import Groups
from rexdet.report.tables.costs import Cost, Latency, Rule, recorded_costs, shown_conditions, single_image
from rexdet.report.tables.table import Cell, Column

# Columns of MACs that the rule is of; those of whole detectors have another.
_MACS = ("macs", "cheapest_macs")


@dataclass(frozen=True)
class CostColumns:
    """The costs of a summary's rows.

    rule: of parameters and MACs; None where none is told. conditions: of the latencies; "" where none was measured.
    counted: what was counted of a row, by whatever rule. latencies: by network.
    """

    rule: Rule | None
    conditions: str
    counted: Mapping[RowKey, Sequence[Cost]]
    latencies: Mapping[str, Sequence[Latency]]

    def titled(self, column: Column) -> Column:
        """The column; of costs with the rule or the conditions of its numbers in its title."""
        told = [self.conditions] if column.key == "latency" else []
        if self.rule is not None and column.key in _MACS:
            told.append(f"{self.rule.size} px")
        if self.rule is not None and self.rule.classes is not None and column.key in (*_MACS, "parameters"):
            told.append(f"classifier of {self.rule.classes:,} classes")
        return replace(column, title=", ".join(word for word in (column.title, *told) if word))

    def cells(self, row: RowKey) -> dict[str, Cell]:
        """Parameters, MACs and latency of a row, each with how it is known, or why it is not shown."""
        counted = self.counted[row]
        cells = {}
        if counted:
            cells["parameters"] = cells["macs"] = Cell(status="missing", source=_not_shown(counted))
        # To the parameters the size of the image is nothing.
        fitting = [cost for cost in counted if self.rule and cost.rule and cost.rule.classes == self.rule.classes]
        if fitting:
            number = fitting[0].parameters / 1e6
            cells["parameters"] = Cell(f"{number:.2f}", number, "ours", None, fitting[0].how)
        if (cost := self.by_rule(row, self.rule)) is not None:
            number = cost.macs / 1e9
            cells["macs"] = Cell(f"{number:.3f}", number, "ours", None, cost.how)
        measured = single_image(self.latencies.get(row.network, ()), self.conditions)
        if measured is not None:
            source = f"{measured.conditions}; {measured.source}"
            cells["latency"] = Cell(f"{measured.milliseconds:.1f}", measured.milliseconds, "ours", None, source)
        return cells

    def by_rule(self, row: RowKey, rule: Rule | None) -> Cost | None:
        """What was counted of a row by this rule; None where nothing was."""
        return next((cost for cost in self.counted[row] if rule is not None and cost.rule == rule), None)

    def shared_rule(self, rows: Sequence[RowKey]) -> Rule | None:
        """A rule by which every one of these rows was counted, that of the columns before others; None for none."""
        known = [cost.rule for cost in self.counted[rows[0]] if cost.rule is not None]
        rules = sorted(known, key=lambda rule: rule != self.rule)
        return next((rule for rule in rules if all(self.by_rule(row, rule) for row in rows)), None)

    def notes(self) -> list[str]:
        """What the numbers are of, and how many rows have other ones."""
        told = [self.rule.told()] if self.rule else []
        rows = sum(bool(counted) and self.by_rule(row, self.rule) is None for row, counted in self.counted.items())
        if rows:
            told.append(
                f"No MACs stand here for {rows:,} row{'s' if rows > 1 else ''}: counted for another image or "
                "classifier than the column's, or for one that is not told. In CSV and on the page the empty cell says "
                "what is known."
            )
        return told


def cost_columns(groups: Groups, costs: Mapping[str, Cost], latencies: Mapping[str, Sequence[Latency]]) -> CostColumns:
    """The costs of all rows. costs, latencies: by network; what is not among them is what the runs say.

    The rule is that by which most rows were counted for these tables, and where none was, by their own runs.
    """
    ours = {row: [costs[row.network]] if row.network in costs else [] for row in groups.of_row}
    rule = _most_common([cost.rule for counted in ours.values() for cost in counted])
    counted = {
        row: mine if mine and mine[0].rule == rule else [*mine, *recorded_costs(groups.of_row[row])]
        for row, mine in ours.items()
    }
    if rule is None:
        rule = _most_common([rule for every in counted.values() for rule in {cost.rule for cost in every}])
    return CostColumns(rule, shown_conditions(latencies, (row.network for row in counted)), counted, latencies)


def _most_common(rules: Iterable[Rule | None]) -> Rule | None:
    """The most frequent rule; of several the one of the larger image, then of more classes."""
    counts = Counter(rule for rule in rules if rule is not None)
    return max(counts, key=lambda rule: (counts[rule], rule.size, rule.classes or 0), default=None)


def _not_shown(counted: Sequence[Cost]) -> str:
    return f"not by the rule of the column: {'; '.join(dict.fromkeys(cost.told() for cost in counted))}"
