"""What was noticed about a data set: one finding a rule, with how often and where first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

ACTIONS = ("accept", "mend", "skip", "refuse")
"""What is done about a finding: taken as it is, put right, left out while training, or not worked with at all."""

SHOWN = 5
"""How many offending entries a finding names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed about an annotation file or its images.

    action: one of `ACTIONS`.
    code: the rule's name, stable, for example "box-past-border"; docs/data.md lists them.
    message: one line that names the first offending entries, without the annotation file's path.
    count: how many entries are affected.
    first: ids or file names of the first affected entries, at most `SHOWN`.
    file: the annotation file.
    """

    action: str
    code: str
    message: str
    count: int
    first: tuple[Any, ...] = ()
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}: " if self.file else ""
        return " ".join(f"{place}{self.message} [{self.action}: {self.code}]".split())

    def as_json(self) -> dict[str, Any]:
        """The finding as a plain dict."""
        return {
            "action": self.action,
            "code": self.code,
            "message": self.message,
            "count": self.count,
            "first": list(self.first),
            "file": self.file,
        }


class Findings:
    """Collects findings in the order in which they are made."""

    def __init__(self) -> None:
        self._list: list[Finding] = []

    def add(
        self,
        action: str,
        code: str,
        clause: str,
        offenders: Sequence[Any] | npt.NDArray[Any],
        count: int | None = None,
        shown: Sequence[str] | None = None,
    ) -> None:
        """Add a finding about `offenders`; nothing is added when there are none.

        clause: what is the matter with them, for example "annotations without iscrowd, taken as 0".
        count: how many offenders there are, where `offenders` holds only the first of them.
        shown: the offenders as the message names them, where their ids do not say enough.
        """
        if action not in ACTIONS:
            raise ValueError(f"unknown action {action!r}: one of {', '.join(ACTIONS)}")
        total = len(offenders) if count is None else count
        if not total:
            return
        first = tuple(item.item() if hasattr(item, "item") else item for item in offenders[:SHOWN])
        named = ", ".join(map(str, first if shown is None else shown[:SHOWN])) + (", …" if total > len(first) else "")
        self._list.append(Finding(action, code, f"{clause}: {total} ({named})", total, first))

    def as_tuple(self) -> tuple[Finding, ...]:
        """All findings so far."""
        return tuple(self._list)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Refusals first, then what is skipped, mended and accepted; the order within each stays."""
    return tuple(sorted(findings, key=lambda finding: -ACTIONS.index(finding.action)))
