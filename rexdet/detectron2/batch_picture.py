"""A training batch as the network gets it, drawn."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from detectron2.structures import ImageList

import rexdet.detectron2  # noqa: F401 - registers the builders before a config is read
from rexdet.detectron2.data import TrainingSet
from rexdet.detectron2.plan import make_plan
from rexdet.job import DetectionJob
from rexdet.session.data import CocoFiles, open_split, trainable_images
from rexdet.session.sheet import MOST, write_sheet


def draw_training_batch(
    config: str, annotations: str | os.PathLike[str], images: str | os.PathLike[str], path: str | os.PathLike[str]
) -> None:
    """Draw the first pictures of a data set, augmented, resized and padded as `config` has it, with their boxes.

    Pixels are shown as they are before the mean is subtracted; black at the right and below is the padding that brings
    a batch to one size. At most MOST pictures. Raises UserError as training would.
    """
    plan = make_plan(DetectionJob(config), classes=None)
    dataset = open_split(CocoFiles(Path(annotations), Path(images)), "train")
    chosen = trainable_images(dataset, keep_empty=plan.keep_empty, limit=0)
    training = TrainingSet(
        dataset, chosen, plan.train_augmentations, image_format=plan.image_format, use_masks=False, seed=plan.seed or 0
    )
    batch = [training[(0, place)].inputs for place in range(min(plan.batch, MOST, len(training)))]
    padded = ImageList.from_tensors([inputs["image"] for inputs in batch], size_divisibility=32).tensor
    names = dataset.class_names
    pictures = []
    for inputs, pixels in zip(batch, padded, strict=True):
        picture = pixels.permute(1, 2, 0).to(torch.uint8).numpy()
        picture = picture[:, :, ::-1] if plan.image_format == "BGR" else picture
        instances = inputs["instances"]
        labels = [names[index] for index in instances.gt_classes.tolist()]
        pictures.append((picture, instances.gt_boxes.tensor.numpy(), labels))
    write_sheet(path, pictures)
