"""A rehearsal: one batch through everything, and what the whole run would cost."""

from __future__ import annotations

import time

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from rexdet.coco.annotations import CocoDataset
from rexdet.coco.evaluate import evaluate
from rexdet.detectron2.data import EvaluationSet, TrainingSet
from rexdet.detectron2.plan import Plan, lr_mismatch, recipe_differences
from rexdet.detectron2.predict import predict_dataset
from rexdet.job import DetectionJob
from rexdet.processes import world_size
from rexdet.session.cost import Cost, Measured, measure_pass, sizes_to_measure, tell_cost, tell_differences
from rexdet.session.data import trainable_images
from rexdet.session.precision import autocast_type
from rexdet.session.say import say


def dry_run(job: DetectionJob, device: torch.device) -> int:
    """Build, load, pass one batch forward and backward, evaluate a picture; print the cost of the run. Returns 0.

    Nothing is written. Raises UserError for whatever would stop the run.
    """
    from rexdet.detectron2.run import Session

    session = Session(job, device)
    plan, train, val = session.plan, session.data.train, session.data.val
    detector = session.build()
    if train is None:
        say("everything that --eval-only needs was built and loaded")
        return 0
    images = trainable_images(train, keep_empty=plan.keep_empty, limit=job.limit_train)
    training = TrainingSet(
        train, images, plan.train_augmentations, image_format=plan.image_format, use_masks=plan.use_masks, seed=0
    )
    per_process = max(plan.batch // world_size(), 1)
    measured = [_measure(detector, plan, training, size, device) for size in sizes_to_measure(per_process, device)]
    evaluation = _evaluate_one(session, detector, val) if val is not None else 0.0
    effective = plan.batch * job.accumulate
    tell_cost(
        Cost(
            backbone=plan.backbone,
            per_process_batch=per_process,
            effective_batch=effective,
            base_lr=plan.base_lr,
            forward_passes=job.accumulate * plan.iterations,
            length=f"{plan.iterations} steps",
            checkpoints=max(plan.iterations // max(plan.checkpoint_period, 1), 1) + 1,
            output=plan.output,
        ),
        detector,
        measured,
        evaluation * len(val) / world_size() if val is not None else 0.0,
    )
    tell_differences(recipe_differences(plan, effective), lr_mismatch(plan, effective))
    return 0


def _measure(detector: nn.Module, plan: Plan, training: TrainingSet, size: int, device: torch.device) -> Measured:
    batch = [training[(0, position % len(training))].inputs for position in range(size)]
    detector.train()
    dtype = autocast_type(plan.amp)

    def losses() -> list[torch.Tensor]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return list(detector(batch).values())

    with EventStorage(0):
        return measure_pass(detector, losses, size, device)


def _evaluate_one(session: object, detector: nn.Module, val: CocoDataset) -> float:
    """Predict and score the first picture of the validation set; returns the seconds it took."""
    from rexdet.detectron2.run import Session

    assert isinstance(session, Session)
    plan, train = session.plan, session.data.train
    assert train is not None
    names, ids = list(train.class_names), [category.id for category in train.categories]
    classes = session.data.match_classes(names, ids, by_name=True)
    one = EvaluationSet(val, plan.test_augmentations, image_format=plan.image_format)
    begun = time.perf_counter()
    detections, _ = predict_dataset(
        detector, [one[0]], classes, autocast=autocast_type(plan.amp), use_masks=plan.use_masks
    )
    evaluate(val, detections)
    return time.perf_counter() - begun
