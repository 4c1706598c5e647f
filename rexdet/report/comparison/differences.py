"""In what two runs differ, from their records: config, weights, data, recipe, versions, machine."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from rexdet.fast_yaml import LOADER
from rexdet.runs import RunRecord

# Last words of settings that differ where the same run, or its data, lies somewhere else, and say nothing about its
# numbers: data is told by its fingerprint.
_PLACES = frozenset(
    (
        *("OUTPUT_DIR", "output_dir", "work_dir", "out_dir", "save_dir", "log_dir", "experiment_name"),
        *("data_root", "ann_file"),
    )
)
# The data is told by its fingerprint, weights of the end by the steps behind them.
_LEFT_OUT = {
    "data": ("train.path", "train.images_path", "train.findings", "val.path", "val.images_path", "val.findings"),
    "weights": ("evaluated.file", "evaluated.sha256"),
    # Derived from the others: what the recipe has, in words.
    "recipe": ("differs_from_recipe",),
    "machine": (),
}
# Where the weights of the start lie: they are told by their SHA-256, where both records have it.
_WEIGHTS = frozenset(("MODEL.REXDET.WEIGHTS", "model.backbone.bottom_up.weights"))
_WEIGHTS_SET = "checkpoint"
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
        if group == "weights" and _start_alike(one, other):
            skipped = (*skipped, "source")
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
    if one.engine != other.engine:
        # Two languages: every line would differ. What they mean alike stands under recipe, weights and data.
        return
    if one.config is None or other.config is None:
        if one.config != other.config:
            told = ["none" if record.config is None else "told" for record in (one, other)]
            yield FieldDifference("config", "the whole", told[0], told[1])
        return
    is_alike = _start_alike(one, other)
    parsed = [_as_mapping(config) for config in (one.config, other.config)]
    if parsed[0] is not None and parsed[1] is not None:
        values = [_flat(mapping) for mapping in parsed]
        for field in dict.fromkeys([*values[0], *values[1]]):
            mine, theirs = (value.get(field) for value in values)
            is_place = field.rpartition(".")[2] in _PLACES or (is_alike and field in _WEIGHTS)
            if mine != theirs and not is_place:
                yield FieldDifference("config", field, mine, theirs)
        return
    places = [*sorted(_PLACES), *([_WEIGHTS_SET] if is_alike else [])]
    place_set = re.compile(rf"\b(?:{'|'.join(places)})\s*=\s*(?:'[^']*'|\"[^\"]*\"|None)")
    yield from _line_differences(_lines(one.config, place_set), _lines(other.config, place_set))


def _start_alike(one: RunRecord, other: RunRecord) -> bool:
    """Whether both are known to have begun from the same weights."""
    sums = [record.network.sha256 if record.network else None for record in (one, other)]
    return sums[0] is not None and sums[0] == sums[1]


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


@dataclass(frozen=True)
class _Line:
    """A line of a config that is a program. number: from 1. key: what of it is compared, without places."""

    number: int
    text: str
    key: str


def _lines(config: str, place_set: re.Pattern[str]) -> list[_Line]:
    """The lines that say more than where something lies; a value that was folded below its name stands beside it.

    place_set: finds what says where.
    """
    found: list[_Line] = []
    folded = ""
    for number, line in enumerate(config.splitlines(), 1):
        if line.endswith("=") and line.strip():
            folded += line
            continue
        text, folded = f"{folded}{line.strip() if folded else line}", ""
        key = place_set.sub("", text)
        if key == text or key.strip(" ,"):
            found.append(_Line(number, text, key))
    return found


def _line_differences(one: list[_Line], other: list[_Line]) -> Iterator[FieldDifference]:
    """For configs that are programs: runs of lines that differ, named by where they stand in the first."""
    mine_told, theirs_told = ([line.key for line in lines] for lines in (one, other))
    matcher = difflib.SequenceMatcher(None, mine_told, theirs_told, autojunk=False)
    for kind, begin, end, start, stop in matcher.get_opcodes():
        if kind == "equal":
            continue
        mine, theirs = ("\n".join(line.text.strip() for line in part) for part in (one[begin:end], other[start:stop]))
        number = one[begin].number if begin < len(one) else one[-1].number + 1 if one else 1
        yield FieldDifference("config", f"line {number}", mine or None, theirs or None)


def _flat(value: Mapping[str, Any] | None, before: str = "") -> dict[str, Any]:
    """Nested maps as one, names joined with dots; lists are values."""
    found: dict[str, Any] = {}
    for name, entry in (value or {}).items():
        if isinstance(entry, Mapping) and entry:
            found.update(_flat(entry, f"{before}{name}."))
        else:
            found[f"{before}{name}"] = entry
    return found
