"""Marks for settings that would have one title: other images, another configuration, another variant of the backbone.

A mark is the first digits of what differs, as the records have it; where nothing has to be told apart there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rexdet.report.records.facts import RowKey, Setting, Start
from rexdet.runs.matrix import content_key

_DIGITS = 6
_MOST_WORDS, _LONGEST_MARK = 2, 60
# What the words of Setting.images are of.
_IMAGES = ("trained on", "images", "unread")


def with_marks(settings: Iterable[Setting]) -> dict[Setting, Setting]:
    """Each setting -> the same with marks of its images, and of its configuration in detection.

    In transfer other numbers that a search has chosen are no other title; `config_mark` names them.
    """
    alike: dict[tuple[str, str], list[Setting]] = {}
    for setting in settings:
        alike.setdefault((setting.task, setting.title), []).append(setting)
    return {setting: _marked(setting, others) for others in alike.values() for setting in others}


def with_variants(keys: Iterable[tuple[RowKey, Setting, Start]]) -> dict[tuple[RowKey, Setting, Start], Setting]:
    """Each key of a detection group -> its setting, with the variant's mark where the row has more than one there."""
    variants: dict[tuple[RowKey, Setting, Start], set[str]] = {}
    listed = list(keys)
    for row, setting, start in listed:
        variants.setdefault((row, setting.shared, start), set()).add(setting.variant)
    return {
        (row, setting, start): replace(setting, variant_mark=setting.variant or "backbone not told")
        if len(variants[row, setting.shared, start]) > 1
        else setting
        for row, setting, start in listed
    }


def config_mark(config: str, others: Sequence[str]) -> str:
    """What parts a transfer configuration from others: "learning_rate 0.01", or its hash where that is much.

    others: all configurations of the title, this one among them.
    """
    shared = set.intersection(*(set(_lines_below(other)) for other in others))
    own = [f"{key} {value}" for key, value in _lines_below(config) if (key, value) not in shared]
    if own and len(own) <= _MOST_WORDS and sum(map(len, own)) <= _LONGEST_MARK:
        return ", ".join(own)
    return f"config {content_key({'config': config})[:_DIGITS]}"


def _lines_below(config: str) -> Iterator[tuple[str, str]]:
    """(key, value) of each line that has both, wherever it stands."""
    for line in config.splitlines():
        key, colon, value = line.strip().partition(": ")
        if colon:
            yield key, value


def _marked(setting: Setting, alike: list[Setting]) -> Setting:
    marks = []
    own = setting.images.split()
    for place, word in enumerate(_IMAGES):
        values = {part[place] if place < len(part) else "" for part in (other.images.split() for other in alike)}
        if len(values) > 1:
            digits = own[place][:_DIGITS] if place < len(own) else ""
            marks.append(f"{word} {digits if digits.strip('-?') else 'not told'}")
    config = ""
    if setting.task == "detection" and len({other.config for other in alike}) > 1:
        config = f"config {setting.config[:_DIGITS]}"
    return replace(setting, images_mark=", ".join(marks), config_mark=config) if marks or config else setting
