"""A rehearsal: one batch through everything, and what the whole run would cost."""

from __future__ import annotations

import time
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import nn

from rexdet.coco.evaluate import evaluate
from rexdet.job import DetectionJob
from rexdet.mmdet.data import EvaluationSet, TrainingSet, build_training_set
from rexdet.mmdet.plan import Plan, length_words
from rexdet.mmdet.predict import predict_dataset
from rexdet.mmdet.record import differences, rate_mismatch
from rexdet.mmdet.types import type_name
from rexdet.processes import world_size
from rexdet.session.cost import Cost, Measured, measure_pass, sizes_to_measure, tell_cost, tell_differences
from rexdet.session.data import trainable_images
from rexdet.session.precision import autocast_type
from rexdet.session.say import say


def dry_run(job: DetectionJob, device: torch.device) -> int:
    """Build, load, pass one batch forward and backward, evaluate a picture; print the cost of the run. Returns 0.

    Nothing is written. Raises UserError for whatever would stop the run.
    """
    from rexdet.mmdet.run import Session

    session = Session(job, device)
    plan, train, val = session.plan, session.data.train, session.data.val
    detector = session.build()
    if train is None:
        say("everything that --eval-only needs was built and loaded")
        return 0
    images = trainable_images(train, keep_empty=plan.keep_empty, limit=job.limit_train)
    training = build_training_set(plan.train_node, train, images, seed=0)
    measured = [_measure(detector, plan, training, size, device) for size in sizes_to_measure(plan.batch, device)]
    seconds = _evaluate_one(session, detector) if val is not None else 0.0
    iterations = plan.iterations(len(training))
    tell_cost(
        Cost(
            backbone=plan.backbone,
            per_process_batch=plan.batch,
            effective_batch=plan.effective_batch,
            base_lr=plan.base_lr,
            forward_passes=iterations,
            length=f"{length_words(plan.cfg.train_cfg)}, {iterations} steps",
            checkpoints=_checkpoints(plan, iterations),
            output=plan.output,
        ),
        detector,
        measured,
        seconds * len(val) / world_size() if val is not None else 0.0,
    )
    tell_differences(differences(plan), rate_mismatch(plan))
    return 0


def _measure(detector: Any, plan: Plan, training: TrainingSet, size: int, device: torch.device) -> Measured:
    samples = [training[(0, position % len(training))][0] for position in range(size)]
    dtype = autocast_type(plan.amp)
    detector.train()

    def losses() -> list[torch.Tensor]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            data = detector.data_preprocessor(pseudo_collate(samples), True)
            total, _ = detector.parse_losses(detector._run_forward(data, mode="loss"))
        return [total]

    return measure_pass(detector, losses, size, device)


def _evaluate_one(session: Any, detector: nn.Module) -> float:
    """Predict and score the first picture of the validation set; returns the seconds it took."""
    plan, train, val = session.plan, session.data.train, session.data.val
    names, ids = list(train.class_names), [category.id for category in train.categories]
    classes = session.data.match_classes(names, ids, by_name=True)
    one = EvaluationSet(val, plan.test_pipeline)
    begun = time.perf_counter()
    dtype = autocast_type(plan.amp)
    detections, _ = predict_dataset(detector, [one[0]], classes, autocast=dtype, use_masks=plan.use_masks)
    evaluate(val, detections)
    return time.perf_counter() - begun


def _checkpoints(plan: Plan, iterations: int) -> int:
    """How many files CheckpointHook leaves, and the final one."""
    hook = (plan.cfg.get("default_hooks") or {}).get("checkpoint") or {}
    if type_name(hook) not in ("", "CheckpointHook"):
        return 1
    interval = int(hook.get("interval", -1))
    length = plan.length if plan.by_epoch and hook.get("by_epoch", True) else iterations
    written = -(-length // interval) if interval > 0 else 1
    kept = int(hook.get("max_keep_ckpts", -1))
    return (min(written, kept) if kept > 0 else written) + 1
