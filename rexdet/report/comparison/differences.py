"""In what two runs differ, from their records: config, weights, data, recipe, versions, machine."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from rexdet.fast_yaml import LOADER
from rexdet.runs import RunRecord

# Where the same run lies somewhere else these differ too, and say nothing about its numbers.
_PLACES = ("OUTPUT_DIR", "work_dir")
# The data is told by its fingerprint, weights of the end by the steps behind them.
_LEFT_OUT = {
    "data": ("train.path", "train.images_path", "train.findings", "val.path", "val.images_path", "val.findings"),
    "weights": ("evaluated.file", "evaluated.sha256"),
    "machine": (),
}
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
GROUPS = ("config", "weights", "data", "recipe", "run", "versions", "machine")


@dataclass(frozen=True)
class FieldDifference:
    """A field in which the runs differ. one, other: plain JSON values, None where a run does not have it."""

    group: str
    field: str
    one: Any
    other: Any

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"group": self.group, "field": self.field, "A": self.one, "B": self.other}


def run_differences(one: RunRecord, other: RunRecord) -> list[FieldDifference]:
    """Every field in which the two differ, grouped in the order of GROUPS."""
    found = list(_config_differences(one, other))
    parts = [_parts(record) for record in (one, other)]
    for group in GROUPS[1:]:
        values = [_flat(part[group]) for part in parts]
        skipped = _LEFT_OUT.get(group, ())
        for field in dict.fromkeys([*values[0], *values[1]]):
            mine, theirs = (value.get(field) for value in values)
            if mine != theirs and field not in skipped:
                found.append(FieldDifference(group, field, mine, theirs))
    return found


def _parts(record: RunRecord) -> dict[str, Any]:
    values = record.as_json()
    return {
        "weights": {**(values["network"] or {}), "evaluated": values["evaluated_weights"]},
        "data": values["data"],
        "recipe": values["recipe"] or {},
        "run": {name: values[name] for name in ("engine", "seed", "status", "partial")},
        "versions": values["versions"],
        "machine": values["hardware"] or {},
    }


def _config_differences(one: RunRecord, other: RunRecord) -> Iterator[FieldDifference]:
    if one.engine != other.engine or one.config is None or other.config is None:
        # Two languages: every line would differ. What they mean alike stands under recipe, weights and data.
        return
    parsed = [_as_mapping(config) for config in (one.config, other.config)]
    if parsed[0] is not None and parsed[1] is not None:
        values = [_flat(mapping) for mapping in parsed]
        for field in dict.fromkeys([*values[0], *values[1]]):
            mine, theirs = (value.get(field) for value in values)
            if mine != theirs and field not in _PLACES:
                yield FieldDifference("config", field, mine, theirs)
        return
    yield from _line_differences(one.config.splitlines(), other.config.splitlines())


def _as_mapping(config: str) -> dict[str, Any] | None:
    """A configuration in YAML as plain JSON values; None for one that is none, or that cannot be told in JSON."""
    try:
        value = yaml.load(config, Loader=_Loader)
        return _plain(value) if isinstance(value, dict) else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


class _Loader(LOADER):
    """YAML in which a date is a text like any other: it is compared, not reckoned with, and may be none."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [entry for entry in entries if entry[0] != _TIMESTAMP]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_constructor(_TIMESTAMP, lambda loader, node: loader.construct_scalar(node))


def _plain(value: Any) -> Any:
    """JSON values as they are, anything else as text: a number that is not finite, bytes, a set."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _line_differences(one: list[str], other: list[str]) -> Iterator[FieldDifference]:
    """For configs that are programs: runs of lines that differ, named by where they stand in the first."""
    for kind, begin, end, start, stop in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        mine, theirs = ("\n".join(line.strip() for line in part) for part in (one[begin:end], other[start:stop]))
        if not all(any(line.strip().startswith(place) for place in _PLACES) for line in one[begin:end] or ["-"]):
            yield FieldDifference("config", f"line {begin + 1}", mine or None, theirs or None)


def _flat(value: Mapping[str, Any] | None, before: str = "") -> dict[str, Any]:
    """Nested maps as one, names joined with dots; lists are values."""
    found: dict[str, Any] = {}
    for name, entry in (value or {}).items():
        if isinstance(entry, Mapping) and entry:
            found.update(_flat(entry, f"{before}{name}."))
        else:
            found[f"{before}{name}"] = entry
    return found
