"""A detection job in MMDetection, from the config to the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import rexdet.mmdet as plugin
from rexdet.coco.draw import Objects
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet.begin import begin
from rexdet.mmdet.build import build_model, identity_of
from rexdet.mmdet.checkpoint import (
    check_resumable,
    known_classes,
    load_detector,
    newest_checkpoint,
    read_checkpoint,
)
from rexdet.mmdet.data import EvaluationSet, PixelPipeline, build_training_set, evaluation_loader
from rexdet.mmdet.plan import Plan, files_of_config, make_plan
from rexdet.mmdet.predict import predict_dataset, predict_one
from rexdet.mmdet.record import detector_complexity_part, network_part, rate_mismatch, recipe_part, versions
from rexdet.mmdet.rules import unsaid
from rexdet.mmdet.train import Training
from rexdet.processes import barrier, is_main, process_group, rank, share, world_size
from rexdet.runs.begin import check_folder
from rexdet.runs.parts import TimeShare, WeightsFile
from rexdet.runs.record import RunRecord
from rexdet.runs.run import Run
from rexdet.runs.state import seed_everything
from rexdet.session.checkpoints import FINAL, check_rule, is_own
from rexdet.session.classes import ClassMap
from rexdet.session.data import files_of_switches, open_data, trainable_images
from rexdet.session.evaluation import evaluation_folder, note_evaluation, record_evaluation
from rexdet.session.precision import autocast_type
from rexdet.session.recipe import check_shared_memory
from rexdet.session.record import data_split
from rexdet.session.say import say
from rexdet.session.scores import Scores, score, tell_scores, write_pictures
from rexdet.session.seed import choose_seed

__all__ = ["run"]


def run(job: DetectionJob) -> int:
    """Run a job; returns the exit status. Raises UserError."""
    begin()
    if job.replay:
        from rexdet.mmdet.replay import replay

        return replay(job)
    with process_group("cuda" if torch.cuda.is_available() else "cpu") as device:
        if job.dry_run:
            from rexdet.mmdet.dry_run import dry_run

            return dry_run(job, device)
        session = Session(job, device)
        return session.evaluate_only() if job.eval_only else session.train()


class Session:
    """Everything between a job and its result that training and evaluation share."""

    def __init__(self, job: DetectionJob, device: torch.device) -> None:
        self.job = job
        self.device = device
        # A first look at the config tells where the data is; how many classes there are, the data tells.
        with unsaid("rexdet.mmdet"):
            draft = make_plan(job, classes=None, draft=True)
        train_files, val_files = files_of_switches(job) or files_of_config(draft.cfg)
        self.data = open_data(job, train_files, val_files, key="train_dataloader.dataset")
        self.checkpoint: dict[str, Any] | None = None
        self.resumed_from = ""
        self.plan = self._plan(draft)
        for line in self.plan.said:
            say(line)

    def _plan(self, draft: Plan) -> Plan:
        job = self.job
        source = draft.detector_weights
        if job.eval_only or not job.resume:
            self.checkpoint = read_checkpoint(source) if source and Path(source).is_file() else None
        if job.eval_only:
            known = known_classes(self.checkpoint)
            return self._plan_for(len(known[0]) if known else None, source)
        assert self.data.train is not None
        if is_main():
            # Before anything is read or removed: a folder that cannot be written to, or that a live run writes to.
            check_folder(draft.output, resume=job.resume)
        if job.resume:
            path, passed = newest_checkpoint(draft.output) if is_main() else (None, [])
            path, passed = share((path, passed))
            for line in passed:
                say(f"passed over: {line}")
            if path is None:
                say(f"nothing to resume in {draft.output}: a new run")
                self.checkpoint = read_checkpoint(source) if source and Path(source).is_file() else None
            else:
                self.checkpoint = read_checkpoint(path)
                check_resumable(self.checkpoint, str(path))
                self.resumed_from = source = str(path)
        return self._plan_for(len(self.data.train.categories), source)

    def _plan_for(self, classes: int | None, source: str) -> Plan:
        identity = self.checkpoint["rexdet"] if self.checkpoint is not None and is_own(self.checkpoint) else None
        plan = make_plan(self.job, classes=classes, identity=identity)
        if identity is not None and plan.own_backbone:
            fix = "set model.backbone.name to {network} (train_det.py: --backbone {network})"
            check_rule(plan.backbone, identity, source, fix)
        return plan

    # -- building ---------------------------------------------------------------------------------------------------

    def build(self) -> nn.Module:
        """The detector on its device, with the weights that the job means."""
        plan = self.plan
        source = self.resumed_from or plan.detector_weights
        detector = build_model(plan, filled=bool(source))
        if self.resumed_from:
            return detector.to(self.device)
        if source:
            content = self.checkpoint or read_checkpoint(source)
            classes = len(self.data.train.categories) if self.data.train is not None else len(self._known()[0])
            for line in load_detector(detector, content, source, classes):
                say(line)
        elif self.job.eval_only:
            raise UserError("--eval-only without a trained detector", fix="give its file with --weights")
        return detector.to(self.device)

    def _known(self) -> tuple[list[str], list[int]]:
        """Class names and category ids of the model's outputs; those of the validation set where nothing tells."""
        known = known_classes(self.checkpoint)
        val = self.data.val
        if known is not None and known[1] is not None:
            return known[0], known[1]
        if val is None:
            return (known[0], list(range(1, len(known[0]) + 1))) if known else ([], [])
        ids = {category.name: category.id for category in val.categories}
        if known is None:
            return list(ids), list(ids.values())
        # Names without ids: those of the validation set, where it has the class.
        return known[0], [ids.get(name, -1 - index) for index, name in enumerate(known[0])]

    # -- training ---------------------------------------------------------------------------------------------------

    def train(self) -> int:
        """Train (or go on), evaluate, draw, and leave the record."""
        job, plan, train = self.job, self.plan, self.data.train
        assert train is not None
        seed = self._seed()
        seed_everything(seed)
        detector = self.build()
        check_shared_memory(plan.workers, plan.batch, plan.largest_side, "train_dataloader.num_workers")
        if plan.use_masks:
            train.raise_if_masks_missing()
        images = trainable_images(train, keep_empty=plan.keep_empty, limit=job.limit_train)
        training = build_training_set(plan.train_node, train, images, seed)
        for line in self._announcements(len(training.source), len(training)):
            say(line)
        record = RunRecord(
            kind="detection",
            name=plan.name,
            engine="mmdet",
            command=["train_det.py", *job.command],
            config=plan.config_text,
            seed=seed,
            network=network_part(detector, plan),
            detector_complexity=detector_complexity_part(detector, plan),
            recipe=recipe_part(plan, len(training)),
            versions=versions(),
        )
        record.data.train = data_split(
            self.data.train_files, train, images=len(training.source), limited=bool(job.limit_train)
        )
        if self.data.val is not None:
            record.data.val = data_split(self.data.val_files, self.data.val)
        with Run.start(plan.output, record, resume=job.resume) as current:
            barrier()
            identity = identity_of(plan, record, list(train.class_names), [c.id for c in train.categories])
            classes = self.data.match_classes(identity.class_names, identity.category_ids, by_name=True)
            training_run = Training(
                detector,
                plan,
                training,
                device=self.device,
                seed=seed,
                identity=identity,
                norm_eval=bool(getattr(getattr(detector, "backbone", None), "norm_eval", False)),
                run=current,
                score=lambda model: self._evaluate(model, classes, plan.output),
                after_evaluation=lambda holds, scores, done: note_evaluation(current, holds, scores, done),
                pictures=lambda model: self._draw(model, classes, plan.output),
                val_loader=self._val_loader(),
                content=self.checkpoint if self.resumed_from else None,
            )
            if self.resumed_from and self.checkpoint is not None:
                self._tell_resumed(training_run, plan.iterations(len(training)))
            training_run.train()
            for note in training_run.notes:
                say(note)
                current.event("resume", note)
            weights = WeightsFile(file=FINAL, holds=training_run.holds, iteration=training_run.steps_done)
            current.finish(
                **training_run.scores.parts(),
                evaluated_weights=weights,
                final_weights=weights,
                images_per_second=training_run.shares.images_per_second(),
                time_share=TimeShare(**training_run.shares.fractions()),
                files={**current.record.files, "weights": FINAL, **training_run.scores.files()},
            )
            tell_scores(training_run.scores, plan.output)
        return 0

    def _tell_resumed(self, training_run: Training, planned: int) -> None:
        assert self.checkpoint is not None
        done = int(self.checkpoint["meta"]["iter"])
        say(f"resumed from {self.resumed_from}: going on with step {done + 1} of {planned}")

    def _seed(self) -> int:
        if self.resumed_from and self.checkpoint is not None:
            started_with = int(self.checkpoint["rexdet_state"]["sampler"]["seed"])
            return choose_seed(self.plan.seed, resumed=started_with, source=self.resumed_from)
        return choose_seed(self.plan.seed)

    def _announcements(self, images: int, samples: int) -> list[str]:
        plan, train = self.plan, self.data.train
        assert train is not None
        iterations = plan.iterations(samples)
        lines = [
            f"{plan.backbone} on {self.device.type}, {world_size()} process(es), {images} of {len(train)} pictures",
            f"effective batch {plan.effective_batch}, learning rate {plan.base_lr:g}, {iterations} steps",
            f"checkpoints as default_hooks.checkpoint says and at the end, in {plan.output}",
        ]
        mismatch = rate_mismatch(plan)
        return [*lines, f"warning: {mismatch}"] if mismatch else lines

    # -- evaluation -------------------------------------------------------------------------------------------------

    def evaluate_only(self) -> int:
        """Score the weights on the validation split, and leave a record in the output folder."""
        plan, job = self.plan, self.job
        val = self.data.validation()
        detector = self.build()
        names, ids = self._known()
        classes = self.data.match_classes(names, ids, by_name=job.map_classes == "by-name")
        if job.map_classes:
            for line in classes.lines():
                say(line)
        output = evaluation_folder(job, plan.output)
        record = RunRecord(
            kind="detection",
            name=output.name,
            engine="mmdet",
            command=["train_det.py", *job.command],
            config=plan.config_text,
            network=network_part(detector, plan),
            detector_complexity=detector_complexity_part(detector, plan),
            versions=versions(),
        )
        record.data.val = data_split(self.data.val_files, val)
        own = self.checkpoint if self.checkpoint and is_own(self.checkpoint) else None
        weights = WeightsFile(
            holds="ema" if own and own["rexdet"]["holds"] == "ema" else "raw",
            iteration=int(own["rexdet"]["steps"]) if own else None,
        )
        record_evaluation(
            record,
            output,
            weights,
            evaluate=lambda folder: self._evaluate(detector, classes, folder),
            draw=lambda folder: self._draw(detector, classes, folder),
        )
        return 0

    def _val_loader(self) -> Any:
        assert self.data.val is not None
        return evaluation_loader(
            EvaluationSet(self.data.val, self.plan.test_pipeline),
            rank=rank(),
            world_size=world_size(),
            workers=self.plan.workers,
        )

    def _evaluate(self, model: nn.Module, classes: ClassMap, folder: Path) -> Scores:
        assert self.data.val is not None
        detections, unreadable = predict_dataset(
            model,
            self._val_loader(),
            classes,
            autocast=autocast_type(self.plan.amp),
            use_masks=self.plan.use_masks,
        )
        return score(self.data.val, detections, unreadable, folder, use_masks=self.plan.use_masks)

    def _draw(self, model: nn.Module, classes: ClassMap, folder: Path) -> None:
        pipeline = PixelPipeline(self.plan.test_pipeline)
        dtype = autocast_type(self.plan.amp)

        def predict(picture: Any, entry: Any) -> Objects:
            found = predict_one(model, pipeline(picture), autocast=dtype, use_masks=self.plan.use_masks)
            return found.objects(classes.names)

        was_training = model.training
        model.eval()
        try:
            write_pictures(self.data.val, folder, predict)
        finally:
            model.train(was_training)


_ = plugin  # importing it registers what a config may name
