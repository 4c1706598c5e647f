"""A detection job in detectron2, from the config to the record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

import rexdet.detectron2 as plugin
from rexdet.detectron2.data import EvaluationSet, TrainingSet, evaluation_loader, resolve_files
from rexdet.detectron2.foreign import is_foreign, load_foreign
from rexdet.detectron2.plan import Plan, check_shared_memory, lr_mismatch, make_plan, recipe_differences, whole_detector
from rexdet.detectron2.predict import predict_dataset
from rexdet.detectron2.record import detector_complexity_part, network_part, recipe_part
from rexdet.detectron2.resume import check_resumable, load_detector
from rexdet.detectron2.scores import write_pictures
from rexdet.detectron2.train import Training
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.processes import barrier, is_main, process_group, rank, share, world_size
from rexdet.runs.begin import check_folder
from rexdet.runs.parts import TimeShare, WeightsFile
from rexdet.runs.record import RunRecord
from rexdet.runs.run import Run
from rexdet.runs.state import seed_everything
from rexdet.session import checkpoints
from rexdet.session.checkpoints import FINAL, Identity, classes_of, is_own, newest_checkpoint, read_checkpoint
from rexdet.session.classes import ClassMap
from rexdet.session.data import open_data, trainable_images
from rexdet.session.evaluation import evaluation_folder, note_evaluation, record_evaluation
from rexdet.session.precision import autocast_type
from rexdet.session.record import data_split
from rexdet.session.say import say
from rexdet.session.scores import Scores, score, tell_scores
from rexdet.session.seed import choose_seed

__all__ = ["run"]


def run(job: DetectionJob) -> int:
    """Run a job; returns the exit status. Raises UserError."""
    # detectron2 calls torch.meshgrid as older versions of torch wanted it; the result is the same.
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if job.replay:
        from rexdet.detectron2.replay import replay

        return replay(job)
    with process_group(_device_of(job, device)) as own_device:
        if job.dry_run:
            from rexdet.detectron2.dry_run import dry_run

            return dry_run(job, own_device)
        session = Session(job, own_device)
        return session.evaluate_only() if job.eval_only else session.train()


def _device_of(job: DetectionJob, default: str) -> str:
    words = dict(zip(job.overrides[::2], job.overrides[1::2], strict=False))
    return words.get("MODEL.DEVICE", default)


class Session:
    """Everything between a job and its result that training and evaluation share."""

    def __init__(self, job: DetectionJob, device: torch.device) -> None:
        self.job = job
        self.device = device
        # A first look at the config tells where the data is; how many classes there are, the data tells.
        with _unsaid():
            draft = make_plan(job, classes=None)
        train_files, val_files = resolve_files(job, "" if job.eval_only else draft.train_name, draft.val_name)
        self.data = open_data(job, train_files, val_files, key="DATASETS.TRAIN")
        self.checkpoint: dict[str, Any] | None = None
        self.resumed_from = ""
        self.plan = self._plan()
        for line in self.plan.said:
            say(line)

    def _plan(self) -> Plan:
        job = self.job
        if job.eval_only:
            with _unsaid():
                source = job.weights or make_plan(job, classes=None).detector_weights
            self.checkpoint = read_checkpoint(source) if source and Path(source).is_file() else None
            known = classes_of(self.checkpoint)
            return make_plan(job, classes=len(known[0]) if known else None)
        assert self.data.train is not None
        plan = make_plan(job, classes=len(self.data.train.categories))
        if is_main():
            # Before anything is read or removed: a folder that cannot be written to, or that a live run writes to.
            check_folder(plan.output, resume=job.resume)
        if job.resume:
            path, passed = newest_checkpoint(plan.output) if is_main() else (None, [])
            path, passed = share((path, passed))
            for line in passed:
                say(f"passed over: {line}")
            if path is None:
                say(f"nothing to resume in {plan.output}: a new run")
            else:
                self.checkpoint = read_checkpoint(path)
                check_resumable(self.checkpoint, str(path))
                self.resumed_from = str(path)
        return plan

    # -- building ---------------------------------------------------------------------------------------------------

    def build(self) -> nn.Module:
        """The detector on its device, with the weights that the job means."""
        plan = self.plan
        if self.checkpoint is not None and is_own(self.checkpoint):
            source = self.resumed_from or plan.detector_weights
            check_rule(plan, self.checkpoint["rexdet"], source)
            restore_choices(plan, self.checkpoint["rexdet"], source)
        detector = plan.build_model()
        if self.resumed_from:
            return detector.to(self.device)
        if plan.detector_weights and self._is_foreign():
            for line in load_foreign(detector, plan.detector_weights):
                say(line)
        elif plan.detector_weights:
            content = self.checkpoint or read_checkpoint(plan.detector_weights)
            for line in load_detector(detector, content, plan.detector_weights):
                say(line)
        elif self.job.eval_only:
            raise UserError("--eval-only without a trained detector", fix="give its file with --weights")
        return detector.to(self.device)

    def _is_foreign(self) -> bool:
        """Whether MODEL.WEIGHTS is for one of detectron2's own backbones and was not written by this package."""
        source = self.plan.detector_weights
        return is_foreign(source) or (not self.plan.own_backbone and not whole_detector(source))

    # -- training ---------------------------------------------------------------------------------------------------

    def train(self) -> int:
        """Train (or go on), evaluate, draw, and leave the record."""
        job, plan, train = self.job, self.plan, self.data.train
        assert train is not None
        self._check_batch()
        seed = self._seed()
        seed_everything(seed, rank())
        detector = self.build()
        check_shared_memory(plan, per_process_batch=plan.batch // world_size())
        if plan.use_masks:
            train.raise_if_masks_missing()
        images = trainable_images(train, keep_empty=plan.keep_empty, limit=job.limit_train)
        training = TrainingSet(
            train,
            images,
            plan.train_augmentations,
            image_format=plan.image_format,
            use_masks=plan.use_masks,
            seed=seed,
        )
        effective = plan.batch * job.accumulate
        for line in self._announcements(len(images), effective):
            say(line)
        record = RunRecord(
            kind="detection",
            name=plan.name,
            engine="detectron2",
            command=["train_det.py", *job.command],
            config=plan.config_text,
            seed=seed,
            network=network_part(detector, plan),
            detector_complexity=detector_complexity_part(detector, plan),
            recipe=recipe_part(plan, job, effective, recipe_differences(plan, effective)),
        )
        record.data.train = data_split(self.data.train_files, train, images=len(images), limited=bool(job.limit_train))
        if self.data.val is not None:
            record.data.val = data_split(self.data.val_files, self.data.val)
        with Run.start(plan.output, record, resume=job.resume) as current:
            barrier()
            identity = Identity(
                class_names=list(train.class_names),
                category_ids=[category.id for category in train.categories],
                backbone=plan.backbone,
                norm=record.network.norm or "" if record.network else "",
                freeze_at=(record.network.freeze_at or 0) if record.network else 0,
                config=plan.config_text,
                pixels=pixels_of(plan),
            )
            classes = self.data.match_classes(identity.class_names, identity.category_ids, by_name=True)
            training_run = Training(
                detector,
                plan,
                training,
                device=self.device,
                accumulate=job.accumulate,
                ema=job.ema,
                identity=identity,
                run=current,
                evaluate=lambda model, done: self._periodic(current, model, classes, done),
            )
            if self.resumed_from and self.checkpoint is not None:
                self._resume(training_run, current)
            training_run.train()
            with training_run.shares.measure("evaluation", whole=True):
                scores = self._evaluate(training_run.scored_model, classes, plan.output)
                write_pictures(training_run.scored_model, self.data.val, classes, plan)
            weights = WeightsFile(file=FINAL, holds="ema" if job.ema else "raw", iteration=training_run.steps_done)
            current.finish(
                **scores.parts(),
                evaluated_weights=weights,
                final_weights=weights,
                images_per_second=training_run.shares.images_per_second(),
                time_share=TimeShare(**training_run.shares.fractions()),
                files={**current.record.files, "weights": FINAL, **scores.files()},
            )
            tell_scores(scores, plan.output)
        return 0

    def _resume(self, training_run: Training, current: Run) -> None:
        assert self.checkpoint is not None
        notes = training_run.resume(self.checkpoint)
        done, planned = training_run.steps_done, self.plan.iterations
        before = make_recipe_iterations(self.checkpoint)
        say(f"resumed from {self.resumed_from}: going on with step {done + 1} of {planned}")
        if before is not None and before != planned:
            say(f"the run was planned for {before} steps; the schedule is that of {planned} from here on")
        for note in notes:
            say(note)
            current.event("resume", note)

    def _check_batch(self) -> None:
        if self.plan.batch % world_size():
            raise UserError(
                f"a batch of {self.plan.batch} cannot be divided among {world_size()} processes",
                fix=f"choose a multiple of {world_size()} for SOLVER.IMS_PER_BATCH",
            )
        if self.plan.iterations < 1:
            raise UserError(f"{self.plan.iterations} steps are no training", where="SOLVER.MAX_ITER")

    def _seed(self) -> int:
        if self.resumed_from and self.checkpoint is not None:
            started_with = int(self.checkpoint["sampler"]["seed"])
            return choose_seed(self.plan.seed, resumed=started_with, source=self.resumed_from)
        return choose_seed(self.plan.seed)

    def _announcements(self, images: int, effective: int) -> list[str]:
        plan, train = self.plan, self.data.train
        assert train is not None
        lines = [
            f"{plan.backbone} on {self.device.type}, {world_size()} process(es), {images} of {len(train)} pictures",
            f"effective batch {effective}, learning rate {plan.base_lr:g}, {plan.iterations} steps",
            f"a checkpoint every {plan.checkpoint_period} steps and at the end, in {plan.output}",
        ]
        mismatch = lr_mismatch(plan, effective)
        return [*lines, f"warning: {mismatch}"] if mismatch else lines

    # -- evaluation -------------------------------------------------------------------------------------------------

    def evaluate_only(self) -> int:
        """Score the weights on the validation split, and leave a record in the output folder."""
        plan, job = self.plan, self.job
        val = self.data.validation()
        detector = self.build()
        names, ids = classes_of(self.checkpoint) or (None, None)
        if names is None or ids is None:
            names, ids = list(val.class_names), [category.id for category in val.categories]
        classes = self.data.match_classes(names, ids, by_name=job.map_classes == "by-name")
        if job.map_classes:
            for line in classes.lines():
                say(line)
        output = evaluation_folder(job, plan.output)
        record = RunRecord(
            kind="detection",
            name=output.name,
            engine="detectron2",
            command=["train_det.py", *job.command],
            config=plan.config_text,
            network=network_part(detector, plan),
            detector_complexity=detector_complexity_part(detector, plan),
        )
        record.data.val = data_split(self.data.val_files, val)
        own = self.checkpoint if self.checkpoint and is_own(self.checkpoint) else None
        weights = WeightsFile(
            holds="ema" if own and own["rexdet"]["holds"] == "ema" else "raw",
            iteration=int(own["iteration"]) + 1 if own else None,
        )
        record_evaluation(
            record,
            output,
            weights,
            evaluate=lambda folder: self._evaluate(detector, classes, folder),
            draw=lambda folder: write_pictures(detector, val, classes, plan, folder),
        )
        return 0

    def _evaluate(self, model: nn.Module, classes: ClassMap, folder: Path) -> Scores:
        assert self.data.val is not None
        loader = evaluation_loader(
            EvaluationSet(self.data.val, self.plan.test_augmentations, image_format=self.plan.image_format),
            rank=rank(),
            world_size=world_size(),
            workers=self.plan.workers,
        )
        detections, unreadable = predict_dataset(
            model, loader, classes, autocast=autocast_type(self.plan.amp), use_masks=self.plan.use_masks
        )
        return score(self.data.val, detections, unreadable, folder, use_masks=self.plan.use_masks)

    def _periodic(self, current: Run, model: nn.Module, classes: ClassMap, done: int) -> None:
        scores = self._evaluate(model, classes, self.plan.output)
        note_evaluation(current, "ema" if self.job.ema else "raw", scores, done)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Inside, the plugin's warnings about a config are held back: the same config is read again, aloud."""
    plugin_logger = logging.getLogger("rexdet.detectron2")
    level = plugin_logger.level
    plugin_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        plugin_logger.setLevel(level)


def pixels_of(plan: Plan) -> dict[str, Any]:
    """The pixels that a plan's network takes, in the words of rexdet.weights: channels in RGB order, 0 to 255."""
    turn = slice(None, None, -1) if plan.image_format == "BGR" else slice(None)
    return {
        "mean": plan.pixel_mean[turn],
        "std": plan.pixel_std[turn],
        "order": plan.image_format,
        "value_range": 255,
        "resize": 0,
        "crop": 0,
        "interpolation": "bilinear",
    }


def check_rule(plan: Plan, identity: dict[str, Any], source: str) -> None:
    """Raise UserError where the config's network has another N:M rule than that of the checkpoint `source`."""
    if plan.own_backbone:
        fix = "set MODEL.REXDET.NAME to {network} (train_det.py: --backbone {network})"
        checkpoints.check_rule(plan.backbone, identity, source, fix)


def restore_choices(plan: Plan, identity: dict[str, Any], source: str) -> None:
    """Make the config build the backbone as it was when the checkpoint was written: its norms and its freezing."""
    if isinstance(plan.cfg, DictConfig):
        bottom_up = plan.cfg.model.backbone.bottom_up
        plan.cfg.train.init_checkpoint = source
        if "name" in bottom_up:
            bottom_up.norm, bottom_up.freeze_at = identity["norm"], identity["freeze_at"]
        return
    node = plan.cfg.MODEL.REXDET
    plan.cfg.MODEL.WEIGHTS = source
    node.NORM = identity["norm"]
    plan.cfg.MODEL.BACKBONE.FREEZE_AT = identity["freeze_at"]


def make_recipe_iterations(checkpoint: dict[str, Any]) -> int | None:
    """How many steps the run of a checkpoint was planned for; None where its config does not say."""
    for line in str(checkpoint["rexdet"]["config"]).splitlines():
        key, _, value = line.strip().partition(":")
        if key == "MAX_ITER" and value.strip().isdigit():
            return int(value)
    return None


_ = plugin  # importing it registers the builders before a config is read
