"""A part of an annotation file as a file of its own."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from rexdet.coco.annotations import read_annotations
from rexdet.errors import UserError
from rexdet.files import write_json_atomically


def write_first_pictures(
    annotations: str | os.PathLike[str], images: str | os.PathLike[str], count: int, path: str | os.PathLike[str]
) -> None:
    """Write the first `count` pictures that have objects (crowds aside), with everything annotated on them, to `path`.

    Categories stay as they are. Raises UserError for a file that is refused, a count below 1, or too few pictures.
    """
    if count < 1:
        raise UserError(f"{count} pictures", fix="give a number of at least 1")
    dataset = read_annotations(annotations, images, purpose="evaluate")
    dataset.raise_if_refused()
    starts = np.asarray(dataset.annotation_starts)
    objects = np.concatenate([[0], np.cumsum(~np.asarray(dataset.crowd))])
    with_objects = np.flatnonzero(objects[starts[1:]] > objects[starts[:-1]])
    if len(with_objects) < count:
        raise UserError(f"only {len(with_objects)} pictures have objects, and {count} are asked for", str(annotations))
    chosen = {int(dataset.image_ids[index]) for index in with_objects[:count]}
    whole: dict[str, Any] = dataset.to_coco()
    part = {
        **whole,
        "images": [image for image in whole["images"] if image["id"] in chosen],
        "annotations": [annotation for annotation in whole["annotations"] if annotation["image_id"] in chosen],
    }
    write_json_atomically(path, part, indent=None)
