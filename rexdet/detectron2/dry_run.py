"""A rehearsal: one batch through everything, and what the whole run would cost."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

import torch
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch import nn

from rexdet.coco.annotations import CocoDataset
from rexdet.coco.evaluate import evaluate
from rexdet.detectron2.data import EvaluationSet, TrainingSet, trainable_images
from rexdet.detectron2.plan import Plan, lr_mismatch, recipe_differences
from rexdet.detectron2.predict import match_classes, predict_dataset
from rexdet.detectron2.step import autocast_type
from rexdet.job import DetectionJob
from rexdet.processes import world_size
from rexdet.runs.environment import peak_memory

# On a CPU a whole batch may take minutes: it is measured at these sizes and the rest is drawn on as a line.
CPU_BATCHES = (1, 2)
BYTES_PER_PARAMETER_IN_CHECKPOINT = 8  # float32 weights and one float32 of optimiser state


@dataclass(frozen=True)
class Measured:
    """One forward and backward pass: images, seconds, peak memory in bytes."""

    images: int
    seconds: float
    memory: int


def dry_run(job: DetectionJob, device: torch.device) -> int:
    """Build, load, pass one batch forward and backward, evaluate a picture; print the cost of the run. Returns 0.

    Nothing is written. Raises UserError for whatever would stop the run.
    """
    from rexdet.detectron2.run import Session, say

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
    sizes = [size for size in CPU_BATCHES if size <= per_process] if device.type == "cpu" else [per_process]
    measured = [_measure(detector, plan, training, size, device) for size in sizes]
    evaluation = _evaluate_one(session, detector, val) if val is not None else 0.0
    effective = plan.batch * job.accumulate
    rows = _rows(plan, measured, per_process, effective, evaluation, val, detector)
    say(tabulate(rows, tablefmt="plain"))
    for line in recipe_differences(plan, effective):
        say(f"differs from the recipe: {line}")
    mismatch = lr_mismatch(plan, effective)
    if mismatch:
        say(f"warning: {mismatch}")
    return 0


def _measure(detector: nn.Module, plan: Plan, training: TrainingSet, size: int, device: torch.device) -> Measured:
    batch = [training[(0, position % len(training))].inputs for position in range(size)]
    detector.train()
    dtype = autocast_type(plan.amp)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with EventStorage(0):
        begun = time.perf_counter()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            losses = detector(batch)
        torch.stack([loss.float() for loss in losses.values()]).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - begun
    detector.zero_grad(set_to_none=True)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory().host or 0
    return Measured(size, seconds, memory)


def _evaluate_one(session: object, detector: nn.Module, val: CocoDataset) -> float:
    """Predict and score the first picture of the validation set; returns the seconds it took."""
    from rexdet.detectron2.run import Session

    assert isinstance(session, Session)
    plan, train = session.plan, session.data.train
    assert train is not None
    names, ids = list(train.class_names), [category.id for category in train.categories]
    classes = match_classes(names, ids, val, by_name=True)
    one = EvaluationSet(val, plan.test_augmentations, image_format=plan.image_format)
    begun = time.perf_counter()
    detections, _ = predict_dataset(
        detector, [one[0]], classes, autocast=autocast_type(plan.amp), use_masks=plan.use_masks
    )
    evaluate(val, detections)
    return time.perf_counter() - begun


def _rows(
    plan: Plan,
    measured: list[Measured],
    per_process: int,
    effective: int,
    evaluation: float,
    val: CocoDataset | None,
    detector: nn.Module,
) -> list[tuple[str, str]]:
    exact = measured[-1].images == per_process
    mark = "" if exact else f" (extrapolated from batches of {' and '.join(str(m.images) for m in measured)})"
    seconds = measured[-1].seconds if exact else _extrapolate([(m.images, m.seconds) for m in measured], per_process)
    memory = measured[-1].memory if exact else _extrapolate([(m.images, m.memory) for m in measured], per_process)
    accumulation = effective // plan.batch
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    checkpoints = max(plan.iterations // max(plan.checkpoint_period, 1), 1) + 1
    disk = checkpoints * parameters * BYTES_PER_PARAMETER_IN_CHECKPOINT
    training_time = seconds * accumulation * plan.iterations
    evaluation_time = evaluation * len(val) / world_size() if val is not None else 0.0
    existing = next(folder for folder in (plan.output, *plan.output.resolve().parents) if folder.exists())
    return [
        ("backbone", plan.backbone),
        ("parameters", f"{parameters / 1e6:.3f}M"),
        ("effective batch", str(effective)),
        ("learning rate", f"{plan.base_lr:g}"),
        ("peak memory", f"{memory / 2**30:.2f} GiB{mark}"),
        ("images/s", f"{per_process * world_size() / seconds:.2f}{mark}"),
        ("training", f"{_duration(training_time)} for {plan.iterations} steps{mark}"),
        ("evaluation", f"{_duration(evaluation_time)} (from one picture)"),
        ("disk", f"{disk / 2**30:.2f} GiB in {checkpoints} checkpoints; free {_free(str(existing)) / 2**30:.0f} GiB"),
    ]


def _extrapolate(points: list[tuple[int, float]], at: int) -> float:
    """The line through the last two points (a single point: through the origin), at `at`; never below the last."""
    (x1, y1) = points[-1]
    (x0, y0) = points[-2] if len(points) > 1 else (0, 0.0)
    return max(y1 + (y1 - y0) / (x1 - x0) * (at - x1), y1)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"


def _free(folder: str) -> int:
    return shutil.disk_usage(folder).free
