"""What stands against each other in a setting: each row once, with a name that tells its variants apart."""

from __future__ import annotations

from dataclasses import dataclass

from rexdet.report.records.groups import Group, Groups
from rexdet.report.tables.networks import Known, group_cell, largest, row_id


@dataclass(frozen=True)
class Entry:
    """A row in one setting. key: of the number that the setting is about. value: its mean, in per cent."""

    name: str
    group: Group
    key: str
    value: float


def entries_by_setting(groups: Groups, known: Known) -> dict[str, list[Entry]]:
    """The rows of each setting by its title, the best first; a row without the number is in none.

    Norms and freezings of one backbone stand there each by itself. Where a search chose other numbers in some runs of a
    row, the group of most runs stands for it, as in the table of networks.
    """
    found: dict[tuple[str, str], dict[str, list[Group]]] = {}
    for group in (*groups.detection.values(), *groups.transfer.values()):
        setting = group.setting.shared
        found.setdefault((setting.task, setting.title), {}).setdefault(entry_name(group), []).append(group)
    settings = {}
    for (task, title), rows in sorted(found.items()):
        entries = []
        for name, candidates in rows.items():
            group = largest(candidates)
            key = "AP" if task == "detection" else known.metric(group.setting.dataset)
            if (value := group_cell(group, key).number) is not None:
                entries.append(Entry(name, group, key, value))
        entries.sort(key=lambda entry: (-entry.value, entry.name))
        settings[f"AP {title}" if task == "detection" else title] = entries
    return settings


def entry_name(group: Group) -> str:
    """The row; where its backbone stood still that is said, and its variant where the row has more than one."""
    frozen = " frozen" if group.start == "frozen" else ""
    variant = f" ({group.setting.variant_mark})" if group.setting.variant_mark else ""
    return f"{row_id(group.row)}{frozen}{variant}"
