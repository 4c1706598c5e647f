"""Which category of a data set each output of a model stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rexdet.coco.annotations import CocoDataset
from rexdet.errors import UserError


@dataclass(frozen=True)
class ClassMap:
    """Which category of a data set each output of a model stands for.

    category_ids: one a model class, in the order of the outputs; None where the data set has no such class.
    """

    names: tuple[str, ...]
    category_ids: tuple[int | None, ...]

    def lines(self) -> list[str]:
        """The mapping in words, a line a class that the data set knows."""
        return [
            f"{index} {name} -> category {category}"
            for index, (name, category) in enumerate(zip(self.names, self.category_ids, strict=True))
            if category is not None
        ]


def match_classes(names: Sequence[str], ids: Sequence[int], dataset: CocoDataset, *, by_name: bool) -> ClassMap:
    """Match a model's classes with those of a data set.

    names, ids: the model's classes in the order of its outputs, with their category ids in the data it was trained on.
    by_name: the names alone decide. Otherwise lists that differ must at least agree in the ids of the names that both
    have: a file with other ids is another list of classes, whatever its names.

    Raises UserError: a class of the data set that the model does not know, or ids that disagree.
    """
    known = dict(zip(names, ids, strict=True))
    categories = {category.name: category.id for category in dataset.categories}
    where = str(dataset.path)
    unknown = [name for name in categories if name not in known]
    if unknown and (not by_name or len(unknown) == len(categories)):
        raise UserError(
            f"{len(unknown)} of its {len(categories)} classes are unknown to the model, first {unknown[0]!r}; "
            f"the model knows {_listed(names)}",
            where=where,
            fix="" if by_name else "score the classes that both have with --map-classes by-name",
        )
    same_list = set(categories) == set(known)
    differing = [name for name, category in categories.items() if name in known and known[name] != category]
    if differing and not same_list and not by_name:
        name = differing[0]
        raise UserError(
            f"class {name!r} is category {categories[name]} here and {known[name]} in the model's training data, "
            f"and the lists of classes differ ({len(categories)} here, {len(known)} there)",
            where=where,
            fix="match the classes by name with --map-classes by-name",
        )
    return ClassMap(tuple(names), tuple(categories.get(name) for name in names))


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
