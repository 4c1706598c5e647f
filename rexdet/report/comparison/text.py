"""A comparison of two runs as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from rexdet.report.comparison.differences import GROUPS, FieldDifference
from rexdet.report.comparison.paired import Comparison, ImageRow, NumberRow
from rexdet.report.comparison.seed_runs import SeedComparison
from rexdet.report.statistics.bootstrap import LEAST_IMAGES, Interval
from rexdet.report.statistics.detection_errors import KINDS
from rexdet.report.statistics.intervals import describe, describe_p

DASH = "–"
_WIDEST = 44
MOST_FIELDS = 60
MOST_CLASSES = 20
MOST_IMAGES = 5
_OF_TWO_RUNS = (
    "These are two runs: what another seed of the training would change is in none of these; name two folders of runs "
    "with several seeds to see it."
)
_OF_SEEDS = "What another seed would change is in the table over seeds, not here."


def comparison_text(comparison: Comparison, pictures: Mapping[str, Path] | None = None, *, whole: bool = False) -> str:
    """What differs, the numbers, the classes, the errors and the images, as tables that are Markdown too.

    whole: every field and every class, however many there are. pictures: "won", "lost" -> file.
    """
    parts = [
        f"A: {comparison.paths[0]}\nB: {comparison.paths[1]}",
        *(["\n".join(f"- {note}" for note in comparison.notes)] if comparison.notes else []),
        _fields(comparison.differences, whole),
        *([_seeds(comparison.seeds)] if comparison.seeds else []),
        _numbers(comparison),
        _classes(comparison.classes, whole),
        _errors(comparison),
        _images(comparison, pictures or {}),
    ]
    return "\n\n".join(parts)


def _fields(differences: Sequence[FieldDifference], whole: bool) -> str:
    is_of_two_engines = any((entry.group, entry.field) == ("run", "engine") for entry in differences)
    differing = {entry.group for entry in differences} | ({"config"} if is_of_two_engines else set())
    same = [group for group in GROUPS if group not in differing]
    shown = differences if whole else differences[:MOST_FIELDS]
    lines = ["What differs"]
    if shown:
        rows = [(entry.group, entry.field, _short(entry.one, whole), _short(entry.other, whole)) for entry in shown]
        lines.append(_table(("", "field", "A", "B"), rows, text_columns=4))
    if len(shown) < len(differences):
        lines.append(f"and {len(differences) - len(shown)} fields more: --whole shows them")
    if is_of_two_engines:
        lines.append("Configs of two engines are not compared: what they mean alike stands under weights and recipe.")
    if same:
        lines.append(f"Nothing differs in: {', '.join(same)}.")
    return "\n\n".join(lines)


def _seeds(seeds: SeedComparison) -> str:
    rows = []
    for row in seeds.rows:
        comparison = row.difference.comparison
        cells = [DASH if part is None else describe(part, scale=100) for part in (row.one, row.other)]
        if comparison is None:
            cells += [DASH] * 5
        else:
            needed = row.difference.needed
            cells += [
                describe(comparison.summary, scale=100),
                DASH if comparison.p_value is None else describe_p(comparison.p_value),
                DASH if comparison.p_value is None else "yes" if comparison.is_shown else "no",
                _points(comparison.smallest),
                DASH if needed is None else f"{needed:,}",
            ]
        rows.append((row.name, *cells))
    note = (
        f"Mean ± half of the 95% interval (Student's t) over seeds {_listed(seeds.shared)}, paired by seed: "
        "another seed, the same images. `smallest`: the difference that so many pairs would have shown in 80 of 100 "
        "cases. `pairs needed`: seeds of both that would show the observed difference as often, if it is real."
    )
    left_out = [f"{name} alone has {_listed(alone)}" for name, alone in zip("AB", seeds.alone, strict=True) if alone]
    if left_out:
        note += f" Left out: {'; '.join(left_out)}."
    head = ("", "A (%)", "B (%)", "B - A", "p", "shown", "smallest", "pairs needed")
    below = f"All that follows is of the runs of seed {seeds.pictured}."
    return "\n\n".join((f"Over {len(seeds.shared)} seeds", _table(head, rows), note, below))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _numbers(comparison: Comparison) -> str:
    kind = "box" if comparison.iou_type == "bbox" else "mask"
    head = ("", "A (%)", "B (%)", "B - A", "95% interval", "p", "shown", "smallest", "images needed")
    rows = [(row.name, *_compared(row), *_power(row)) for row in comparison.numbers]
    note = (
        f"Brackets: 95% intervals over {comparison.resamples:,} resamples of the images (draws of seed "
        f"{comparison.seed}), the same images for A and B. `shown`: the interval of the difference leaves 0 out. "
        "`smallest`: the difference that so many images would have shown in 80 of 100 cases. `images needed`: to show "
        "the observed difference as often, if it is real. Objects on fewer than "
        f"{LEAST_IMAGES} images give no interval. {_OF_SEEDS if comparison.seeds else _OF_TWO_RUNS}"
    )
    return "\n\n".join((f"Numbers ({kind}, {comparison.images:,} images)", _table(head, rows), note))


def _classes(classes: Sequence[NumberRow], whole: bool) -> str:
    known = [row for row in classes if row.difference.interval.value is not None]
    empty = [row.name for row in classes if row.difference.interval.value is None]
    shown, left_out = known, 0
    if not whole and len(known) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        shown, left_out = [*known[:half], *known[-half:]], len(known) - MOST_CLASSES
    head = ("class", "objects", "A (%)", "B (%)", "B - A", "95% interval", "p", "shown")
    rows = [(row.name, f"{row.objects:,}", *_compared(row)) for row in shown]
    rows += [(name, "0", *[DASH] * 6) for name in empty[: len(empty) if whole else 5]]
    lines = ["AP by class, by falling difference", _table(head, rows)]
    if left_out:
        lines.append(f"{left_out} classes in between are left out: --whole shows them.")
    judged = sum(row.difference.p_value is not None for row in known)
    lines.append(
        f"Not corrected for how many classes there are: of {judged} that do not differ, about {0.05 * judged:.1f} are "
        "shown all the same."
    )
    return "\n\n".join(lines)


def _errors(comparison: Comparison) -> str:
    one, other = comparison.errors
    rows = [
        (kind, f"{one.counts[kind]:,}", f"{other.counts[kind]:,}", _points(one.costs[kind]), _points(other.costs[kind]))
        for kind in KINDS
    ]
    rows.append(("(right)", f"{one.right:,}", f"{other.right:,}", DASH, DASH))
    note = (
        f"AP50: A {_points(one.ap50)}, B {_points(other.ap50)}. Costs: points of AP50 that mending this kind alone "
        "would win; they do not add up. docs/compare.md defines the kinds."
    )
    head = ("kind", "A", "B", "A costs (AP50)", "B costs (AP50)")
    return "\n\n".join(("Errors at IoU 0.5", _table(head, rows), note))


def _images(comparison: Comparison, pictures: Mapping[str, Path]) -> str:
    summary = (
        f"Images: B does better on {len(comparison.won):,}, worse on {len(comparison.lost):,}, the same on "
        f"{comparison.equal:,}; {comparison.without_objects:,} show no object. By the AP of the image alone, its "
        "classes ranked together."
    )
    lines = [summary]
    for word, images in (("won", comparison.won), ("lost", comparison.lost)):
        if images:
            lines.append(_table((word, "id", "A (%)", "B (%)", "B - A"), [_image(row) for row in images[:MOST_IMAGES]]))
    lines += [f"{name}: {path}" for name, path in pictures.items()]
    return "\n\n".join(lines)


def _image(row: ImageRow) -> tuple[str, ...]:
    return row.file_name, str(row.image_id), _points(row.one), _points(row.other), _signed(row.difference)


def _compared(row: NumberRow) -> tuple[str, ...]:
    difference = row.difference
    between = difference.interval
    return (
        _with_interval(row.one),
        _with_interval(row.other),
        _signed(between.value),
        DASH if between.low is None else f"{_signed(between.low)} to {_signed(between.high)}",
        DASH if difference.p_value is None else describe_p(difference.p_value),
        DASH if between.low is None else "yes" if difference.is_shown else "no",
    )


def _power(row: NumberRow) -> tuple[str, str]:
    needed = row.difference.images_needed
    return _points(row.difference.smallest), DASH if needed is None else f"{needed:,}"


def _with_interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return _points(interval.value)
    return f"{_points(interval.value)} [{_points(interval.low)}, {_points(interval.high)}]"


def _points(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    if value is None:
        return DASH
    # "-0.0" would read as a loss.
    return f"{100 * value:+.1f}" if round(100 * value, 1) else "0.0"


def _short(value: Any, whole: bool) -> str:
    if value is None:
        return DASH
    text = value if isinstance(value, str) and value else json.dumps(value)
    text = " ".join(text.split())
    if whole or len(text) <= _WIDEST:
        return text
    # Of a path, the end tells more.
    return f"…{text[1 - _WIDEST :]}" if "/" in text and " " not in text else f"{text[: _WIDEST - 1]}…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    alignment = ["left"] * text_columns + ["right"] * (len(head) - text_columns)
    # Names come from files: a bar or a line break in one would be a column or a row of its own.
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return tabulate(cells, head, tablefmt="pipe", disable_numparse=True, colalign=alignment if rows else None)
