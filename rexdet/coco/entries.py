"""What the lists of an annotation file have in common: entries that are objects, ids that are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rexdet.coco.columns import Texts
from rexdet.coco.findings import Findings
from rexdet.coco.table import Ints


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """I images: ids int64 (I,), sizes int64 (I, 2) of width and height (0 where the file does not say), and names."""

    ids: Ints
    sizes: Ints
    names: Texts


def objects_of(entries: Sequence[Any], kind: str, findings: Findings) -> list[dict[str, Any]]:
    """Those of `entries` that are JSON objects; a finding refuses the others. kind: "image", for example."""
    if set(map(type, entries)) <= {dict}:
        return list(entries)
    odd = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    findings.add("refuse", f"{kind}-not-an-object", f"{kind} entries that are no JSON objects, by position", odd)
    return [entry for entry in entries if isinstance(entry, dict)]


def repeated(values: Ints) -> list[int]:
    """The numbers that come more than once in `values`, each once, ascending."""
    unique, counts = np.unique(values, return_counts=True)
    return [int(value) for value in unique[counts > 1]]


def note_text_ids(values: Sequence[Any], name: str, code: str, findings: Findings) -> None:
    """Note that some of `values`, called `name`, are written as text."""
    if str not in set(map(type, values)):
        return
    texts = [value for value in values if isinstance(value, str)]
    findings.add("accept", code, f"{name} written as text, read as numbers", texts)
