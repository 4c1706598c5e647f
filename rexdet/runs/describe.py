"""A run's record as text for people, and the record's schema as tables for `docs/records.md`."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Any

from rexdet.runs.parts import COCO_KEYS, DataSplit, Network, Numbers, Recipe, WeightsFile
from rexdet.runs.record import RunRecord


def describe_record(record: RunRecord, *, per_class: bool = False, config: bool = False) -> str:
    """The record in a page of text: numbers in percent, a dash for what is not known or has no ground truth.

    per_class: also the numbers of every class. config: also the resolved configuration.
    """
    rows: list[tuple[str, str]] = [
        ("run", f"{record.name} ({record.kind}{f', {record.engine}' if record.engine else ''}): {record.status}"),
        ("time", _time(record)),
    ]
    if record.failure is not None:
        rows += [("failure", line) for line in _failure(record)]
    if record.command:
        rows.append(("command", shlex.join(record.command)))
    if record.network is not None:
        rows += [("network", line) for line in _network(record.network)]
    for name, split in (("train", record.data.train), ("val", record.data.val)):
        if split is not None:
            rows += [(name, line) for line in _split(split)]
    if record.recipe is not None:
        rows += [("recipe", line) for line in _recipe(record.recipe)]
    if record.seed is not None:
        rows.append(("seed", str(record.seed)))
    for group, numbers in record.metrics.items():
        rows += [(group, line) for line in _numbers(numbers, coco=group in ("bbox", "segm"))]
    if per_class:
        for group, classes in record.per_class.items():
            coco = group in ("bbox", "segm")
            rows += [(f"{group} a class", f"{name}: {_one_line(numbers, coco)}") for name, numbers in classes.items()]
    rows += [("partial", line) for line in record.partial]
    if record.evaluated_weights is not None:
        rows.append(("evaluated", _weights(record.evaluated_weights)))
    if record.final_weights is not None:
        rows.append(("final file", _weights(record.final_weights)))
    rows += [("speed", line) for line in _speed(record)]
    rows += [
        ("event", f"{event.message} [{event.code}{f', {event.count} times' if event.count > 1 else ''}]")
        for event in record.events
    ]
    rows += [("file", f"{name} ({role})") for role, name in record.files.items()]
    rows += [("machine", line) for line in _machine(record)]
    if record.versions:
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())))
    text = _columns(rows)
    return f"{text}\n\n{record.config.rstrip()}" if config and record.config else text


def schema_tables() -> str:
    """Every field of the record with type and meaning, in Markdown: the record itself, then each of its parts."""
    schema = RunRecord.model_json_schema(mode="serialization")
    parts = {"RunRecord": schema, **schema["$defs"]}
    sections = []
    for name, part in parts.items():
        if "properties" not in part:
            continue
        lines = [f"### {name}", "", part.get("description", "").replace("\n", " "), "", "| field | type | meaning |"]
        lines.append("|---|---|---|")
        for field, of in part["properties"].items():
            lines.append(f"| `{field}` | {_type(of)} | {of.get('description', '')} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _type(of: dict[str, Any]) -> str:
    if "$ref" in of:
        name = of["$ref"].rpartition("/")[2]
        return "any JSON value" if name == "JsonValue" else name
    if "anyOf" in of:
        return " or ".join(_type(option) for option in of["anyOf"])
    if "const" in of or "enum" in of:
        values = of.get("enum", [of.get("const")])
        return " or ".join(f"`{value}`" for value in values)
    kind = of.get("type")
    if kind == "array":
        return f"list of {_type(of['items'])}"
    if kind == "object":
        return f"map from text to ({_type(of['additionalProperties'])})"
    if kind == "string":
        hexadecimal = "a-f" in of.get("pattern", "")
        return "time" if of.get("format") == "date-time" else "SHA-256" if hexadecimal else "text"
    words = {"integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}
    return words.get(str(kind), "any JSON value")


def _columns(rows: list[tuple[str, str]]) -> str:
    """Two columns; a label that repeats is written once."""
    width = max(len(label) for label, _ in rows)
    lines = []
    before = ""
    for label, text in rows:
        lines.append(f"{'' if label == before else label:<{width}}  {text}".rstrip())
        before = label
    return "\n".join(lines)


def _time(record: RunRecord) -> str:
    text = f"started {record.created:%Y-%m-%d %H:%M:%S} UTC"
    if record.finished is not None:
        text += f", ended {record.finished:%Y-%m-%d %H:%M:%S} UTC"
    else:
        text += f", last heard of {record.updated:%Y-%m-%d %H:%M:%S} UTC"
    if record.wall_time_s is not None:
        text += f", took {timedelta(seconds=round(record.wall_time_s))}"
    if record.resumed_at:
        text += f", resumed {len(record.resumed_at)} times" if len(record.resumed_at) > 1 else ", resumed once"
    return text


def _failure(record: RunRecord) -> list[str]:
    failure = record.failure
    assert failure is not None
    lines = [f"{failure.type}: {failure.message}" if failure.type else failure.message]
    for label, value in (
        ("in process", failure.rank or None),
        ("at step", failure.step),
        ("loss term", failure.loss_term),
        ("first module", failure.module),
        ("images", None if failure.image_ids is None else ", ".join(map(str, failure.image_ids))),
        ("shown again by --replay", failure.replay_file),
    ):
        if value is not None:
            lines.append(f"{label} {value}")
    return lines


def _network(network: Network) -> list[str]:
    changed = "".join(f" {key}={value}" for key, value in network.overrides.items())
    lines = [f"{network.name}{changed}, norm {network.norm or '-'}, frozen stages {_or_dash(network.freeze_at)}"]
    if network.source is None and network.sha256 is None:
        lines.append("from random initialisation")
    else:
        lines.append(f"from {network.source or '-'} (layout {network.layout or '-'}, licence {network.licence or '-'})")
        lines.append(f"SHA-256 {network.sha256 or '-'}")
        if network.origin_sha256:
            lines.append(f"converted from the file of SHA-256 {network.origin_sha256}")
    if network.pixels is not None:
        pixels = network.pixels
        known = f", known by: {network.pixels_known_by}" if network.pixels_known_by else ""
        lines.append(f"pixels {pixels.order} 0..{pixels.range}, mean {pixels.mean}, std {pixels.std}{known}")
    return lines


def _split(split: DataSplit) -> list[str]:
    counts = f"{_or_dash(split.images)} images, {_or_dash(split.annotations)} annotations"
    classes = f", {len(split.classes)} classes" if split.classes is not None else ""
    limited = ", only a part on purpose (limited)" if split.limited else ""
    lines = [f"{split.path or '-'}: {counts}{classes}{limited}"]
    if split.fingerprint:
        lines.append(f"fingerprint {split.fingerprint}")
    lines += [f"{f.action} {f.count}: {f.message or f.code}" for f in split.findings]
    return lines


def _recipe(recipe: Recipe) -> list[str]:
    batch = f"effective batch {_or_dash(recipe.effective_batch)}"
    if recipe.per_process_batch is not None:
        parts = f"{recipe.per_process_batch} a process, {_or_dash(recipe.world_size)} processes"
        batch += f" ({parts}, accumulated {_or_dash(recipe.accumulation)} times)"
    rate = _or_dash(recipe.base_lr)
    lines = [
        f"{batch}, {_or_dash(recipe.iterations)} steps, {recipe.optimizer or '-'}",
        f"learning rate {rate}, warm-up: {recipe.warm_up or '-'}, schedule: {recipe.schedule or '-'}",
        f"precision {recipe.amp or 'float32'}, averaged weights: {'none' if recipe.ema is None else recipe.ema}",
    ]
    if recipe.differs_from_recipe:
        lines.append(f"differs from the published recipe in: {'; '.join(recipe.differs_from_recipe)}")
    return lines


def _numbers(numbers: Numbers, coco: bool) -> list[str]:
    if not coco:
        return [_one_line(numbers, coco=False)]
    half = len(COCO_KEYS) // 2
    keys = [key for key in COCO_KEYS if key in numbers]
    rows = []
    for part in (keys[:half], keys[half:]):
        rows.append("  ".join(f"{key:>6}" for key in part))
        rows.append("  ".join(f"{_percent(numbers[key]):>6}" for key in part))
    return rows


def _one_line(numbers: Numbers, coco: bool) -> str:
    show = _percent if coco else _or_dash
    return ", ".join(f"{key} {show(value)}" for key, value in numbers.items())


def _weights(weights: WeightsFile) -> str:
    holds = {"raw": "raw weights", "ema": "averaged weights (EMA)"}[weights.holds]
    after = f" after {weights.iteration} steps" if weights.iteration is not None else ""
    return f"{weights.file or 'not saved'}: {holds}, {weights.selection}{after}"


def _speed(record: RunRecord) -> list[str]:
    lines = []
    if record.images_per_second is not None:
        lines.append(f"{record.images_per_second:.3g} images/s")
    if record.peak_memory is not None:
        peak = record.peak_memory
        parts = (("in main memory", peak.host), ("on the accelerator", peak.accelerator))
        held = [f"{value / 2**30:.2f} GiB {where}" for where, value in parts if value is not None]
        if held:
            lines.append("at most " + ", ".join(held))
    if record.time_share is not None:
        shares = record.time_share.model_dump()
        lines.append(", ".join(f"{name.replace('_', ' ')} {_percent(value)}%" for name, value in shares.items()))
    return lines


def _machine(record: RunRecord) -> list[str]:
    hardware = record.hardware
    if hardware is None:
        return []
    memory = f"{hardware.memory / 2**30:.0f} GiB" if hardware.memory is not None else "-"
    processor = f"{hardware.processor or '-'}, {_or_dash(hardware.usable_cpus)} processors, {memory}"
    return [processor, *(accelerator.name for accelerator in hardware.accelerators)]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
