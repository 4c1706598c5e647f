"""A training batch as the network gets it, drawn."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.model.utils import stack_batch

import rexdet.mmdet  # noqa: F401 - registers what a config may name
from rexdet.job import DetectionJob
from rexdet.mmdet.begin import begin
from rexdet.mmdet.data import build_training_set
from rexdet.mmdet.plan import make_plan
from rexdet.session.data import CocoFiles, open_split, trainable_images
from rexdet.session.sheet import MOST, write_sheet


def draw_training_batch(
    config: str, annotations: str | os.PathLike[str], images: str | os.PathLike[str], path: str | os.PathLike[str]
) -> None:
    """Draw the first pictures of a data set, through `config`'s training pipeline and padded, with their boxes.

    Pixels are shown as they are before the mean is subtracted; black at the right and below is the padding that brings
    a batch to one size. At most MOST pictures. Raises UserError as training would.
    """
    begin()
    plan = make_plan(DetectionJob(config), classes=None)
    dataset = open_split(CocoFiles(Path(annotations), Path(images)), "train")
    chosen = trainable_images(dataset, keep_empty=plan.keep_empty, limit=0)
    training = build_training_set(plan.train_node, dataset, chosen, seed=plan.seed or 0)
    batch = [training[(0, place)][0] for place in range(min(plan.batch, MOST, len(training)))]
    padded = stack_batch([inputs["inputs"].float() for inputs in batch], pad_size_divisor=32)
    pictures = []
    for inputs, pixels in zip(batch, padded, strict=True):
        objects = inputs["data_samples"].gt_instances
        boxes = getattr(objects.bboxes, "tensor", objects.bboxes)
        labels = [dataset.class_names[index] for index in objects.labels.tolist()]
        # MMDetection's pictures are BGR until its preprocessor turns them.
        picture = pixels.flip(0).permute(1, 2, 0).to(torch.uint8).numpy()
        pictures.append((picture, boxes.numpy(), labels))
    write_sheet(path, pictures)
