"""The classes of a detector and those of an annotation file, matched by name: ids are each file's own affair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rexdet.coco.detections import Detections
from rexdet.coco.schema import Category


@dataclass(frozen=True)
class CategoryMatch:
    """Which class of the detector is which of the annotation file.

    ids: the detector's category id -> the annotation file's, for classes of the same name.
    only_detected: names of classes that the detector knows and the annotation file lacks.
    only_annotated: names of classes that the annotation file lists and the detector does not know.
    """

    ids: dict[int, int]
    only_detected: tuple[str, ...]
    only_annotated: tuple[str, ...]

    def apply(self, detections: Detections) -> tuple[Detections, int]:
        """Detections under the annotation file's ids, and how many were left out: those of `only_detected`.

        A class that the annotation file lacks has no id there, and no object of it can be found or missed: leaving
        its detections out changes none of the 12 numbers.
        """
        kept = detections.take(np.isin(detections.category_ids, list(self.ids)))
        if not len(kept):
            return kept, len(detections)
        sources, rows = np.unique(kept.category_ids, return_inverse=True)
        targets = np.array([self.ids[number] for number in sources.tolist()], np.int64)
        return replace(kept, category_ids=targets[rows]), len(detections) - len(kept)


def match_categories(detector: Sequence[Category], annotated: Sequence[Category]) -> CategoryMatch:
    """Match two class lists by name. Raises ValueError when one of them uses a name twice."""
    for categories in (detector, annotated):
        names = [category.name for category in categories]
        if len(set(names)) != len(names):
            raise ValueError(f"a class name is used twice: {sorted(names)}")
    ids = {category.name: category.id for category in annotated}
    known = {category.name for category in detector}
    return CategoryMatch(
        {category.id: ids[category.name] for category in detector if category.name in ids},
        tuple(category.name for category in detector if category.name not in ids),
        tuple(category.name for category in annotated if category.name not in known),
    )
