"""Detections of a model: over a data set, to be scored, and over any pictures, to be looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from rexdet.coco.annotations import CocoDataset
from rexdet.coco.detections import Detections
from rexdet.errors import UserError
from rexdet.processes import gather, is_main


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


def predict_dataset(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any]],
    classes: ClassMap,
    *,
    autocast: torch.dtype | None = None,
    use_masks: bool = False,
) -> tuple[Detections, dict[int, str]]:
    """Run a model over this process's share of a data set; the main process gets everything.

    Returns the detections of all processes (on the main one; empty elsewhere), and image id -> reason of the pictures
    that could not be read. The model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    parts: list[Detections] = []
    unreadable: dict[int, str] = {}
    try:
        for inputs in tqdm(
            loader, desc="evaluating", unit="image", disable=not is_main(), delay=5, mininterval=2, leave=False
        ):
            if "unreadable" in inputs:
                unreadable[int(inputs["image_id"])] = inputs["unreadable"]
                continue
            instances = predict_one(model, inputs, autocast)
            parts.append(_detections(int(inputs["image_id"]), instances, classes, use_masks))
    finally:
        model.train(was_training)
    shards = gather((Detections.concatenate(parts), unreadable))
    if not shards:
        return Detections.empty(), {}
    merged = Detections.merge([detections for detections, _ in shards])
    return merged, {image: reason for _, reasons in shards for image, reason in reasons.items()}


def predict_one(model: nn.Module, inputs: Mapping[str, Any], autocast: torch.dtype | None = None) -> Any:
    """detectron2's Instances for one picture, on the CPU, in its own pixels. The model must be in evaluation mode."""
    device = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device, dtype=autocast, enabled=autocast is not None):
        return model([inputs])[0]["instances"].to("cpu")


def _detections(image_id: int, instances: Any, classes: ClassMap, use_masks: bool) -> Detections:
    categories = [classes.category_ids[index] for index in instances.pred_classes.tolist()]
    keep = [row for row, category in enumerate(categories) if category is not None]
    if not keep:
        return Detections.empty()
    instances = instances[keep]
    masks = instances.pred_masks.numpy() if use_masks and instances.has("pred_masks") else None
    return Detections.from_image(
        image_id,
        instances.pred_boxes.tensor,
        instances.scores,
        [categories[row] for row in keep],
        masks,
    )
