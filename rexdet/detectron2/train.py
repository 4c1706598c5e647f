"""The training loop: steps, checkpoints, evaluations, until the plan is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from rexdet.detectron2.data import Sample, TrainingSet, training_loader
from rexdet.detectron2.plan import Plan
from rexdet.detectron2.resume import step_file
from rexdet.detectron2.step import Stepper, losses_again, plain_batch
from rexdet.errors import UserError
from rexdet.nets.resnet import stride_place
from rexdet.processes import gather, is_main, rank, share_buffers, world_size
from rexdet.runs.run import Run
from rexdet.runs.state import ResumableSampler, capture_random_state, restore_random_state
from rexdet.runs.timing import TimeShares
from rexdet.session.checkpoints import FINAL, Identity, save_checkpoint
from rexdet.session.data import skip_limit
from rexdet.session.hidden import moved_numbers, plain_numbers, set_numbers
from rexdet.session.nonfinite import NonFiniteLossError, give_up
from rexdet.session.steps import StepLog


class Training:
    """A training run of detectron2's models that can stop at any moment and go on to the bit.

    detector: the model on its device. plan: what to do. training: the data. accumulate, ema: see DetectionJob.
    evaluate: called with the model to score and the number of steps done; all processes call it together.
    """

    def __init__(
        self,
        detector: nn.Module,
        plan: Plan,
        training: TrainingSet,
        *,
        device: torch.device,
        accumulate: int,
        ema: float,
        identity: Identity,
        run: Run,
        evaluate: Callable[[nn.Module, int], None],
    ) -> None:
        self.detector = detector
        self.plan = plan
        self.training = training
        self.device = device
        self.accumulate = accumulate
        self.identity = identity
        self.run = run
        self.evaluate = evaluate
        self.optimizer = plan.build_optimizer(detector)
        self.scheduler = plan.build_scheduler(self.optimizer)
        self.averaged = (
            AveragedModel(detector, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
        )
        self.sampler = ResumableSampler(
            len(training),
            training.seed,
            rank=rank(),
            world_size=world_size(),
            batch_size=plan.batch,
            groups=training.is_wide().astype(int).tolist() if plan.group_by_aspect else None,
        )
        self.shares = TimeShares.for_device(device)
        self.numbers_at_start = plain_numbers(detector)
        self.stepper = Stepper(
            _distributed(detector, device),
            detector,
            self.optimizer,
            accumulate=accumulate,
            amp=plan.amp,
            device=device,
        )
        self.steps_done = 0
        self.skipped: set[str] = set()

    @property
    def scored_model(self) -> nn.Module:
        """The model that evaluations take: the averaged one where there is one."""
        return self.averaged.module if self.averaged is not None else self.detector

    def resume(self, content: dict[str, Any]) -> list[str]:
        """Take over the state of a checkpoint; returns what could not be continued to the bit, a line each."""
        lines: list[str] = []
        self.detector.load_state_dict(content.get("raw") or content["model"])
        set_numbers(self.detector, content["numbers"])
        self.optimizer.load_state_dict(content["optimizer"])
        planned = self.plan.base_lr
        self.scheduler.load_state_dict(content["scheduler"])
        self.steps_done = int(content["iteration"]) + 1
        self._renew_rate(planned)
        self.sampler.load_state_dict(content["sampler"])
        self.shares.load_state_dict(content["time"])
        if "scaler" in content:
            self.stepper.scaler.load_state_dict(content["scaler"])
        if (self.averaged is not None) != ("ema" in content):
            what = "averaged weights" if "ema" in content else "no averaged weights"
            raise UserError(f"the checkpoint holds {what}, which --ema contradicts", fix="resume with the same --ema")
        if self.averaged is not None:
            self.averaged.load_state_dict(content["ema"])
        states = content["random"]
        if len(states) == world_size():
            lines += restore_random_state(states[rank()])
        else:
            lines.append(f"written by {len(states)} processes and resumed by {world_size()}: not bit-identical")
        return lines

    def _renew_rate(self, planned: float) -> None:
        # The schedule is a function of the step: where its length changed, the next step follows the new one.
        self.scheduler.base_lrs = [planned if rate else rate for rate in self.scheduler.base_lrs]
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate

    def train(self) -> None:
        """Run the steps that are left. Raises UserError on a non-finite loss, after the step was saved for a replay."""
        plan = self.plan
        self.detector.train()
        if isinstance(getattr(self.detector, "backbone", None), nn.Module):
            # detectron2's FPN wraps the backbone; the neck's time is not the backbone's.
            self.shares.watch_backbone(getattr(self.detector.backbone, "bottom_up", self.detector.backbone))
        batches = training_loader(
            self.training, self.sampler, per_process_batch=plan.batch // world_size(), workers=plan.workers
        )
        first = self.steps_done
        log = StepLog(self.run.folder, first)
        bar = tqdm(
            total=plan.iterations, initial=first, desc="training", unit="step", disable=not is_main(), mininterval=2
        )
        with EventStorage(first) as storage, bar:
            for iteration in range(first, plan.iterations):
                storage.iter = iteration
                losses, samples = self._step(batches, iteration)
                rate = self.optimizer.param_groups[0]["lr"]
                log.write(iteration + 1, rate, losses, [sample.inputs["image_id"] for sample in samples])
                self._count_skipped(samples)
                self.scheduler.step()
                self.sampler.advance(self.accumulate)
                self.steps_done = iteration + 1
                bar.set_postfix(loss=f"{sum(losses.values()):.3f}", lr=f"{rate:.2g}", refresh=False)
                bar.update()
                self._after_step()
        if first < plan.iterations or not (self.run.folder / FINAL).exists():
            self.save(FINAL)

    def _step(self, batches: Iterator[list[Sample]], iteration: int) -> tuple[dict[str, float], list[Sample]]:
        try:
            with self.shares.step(self.plan.batch * self.accumulate):
                result = self.stepper(batches, self.shares)
                if self.averaged is not None:
                    self.averaged.update_parameters(self.detector)
            return result
        except NonFiniteLossError as trouble:
            self._give_up(trouble, iteration)

    def _give_up(self, trouble: NonFiniteLossError, iteration: int) -> NoReturn:
        meta = {**self.identity.as_dict(), "amp": self.plan.amp or "", "term": trouble.bad_term()}
        give_up(
            self.run,
            trouble,
            self.detector,
            step=iteration + 1,
            batch=plain_batch(trouble.inputs),
            meta=meta,
            losses=lambda: losses_again(self.detector, trouble.inputs, self.stepper.dtype, self.device),
        )

    def _count_skipped(self, samples: list[Sample]) -> None:
        new = {reason for sample in samples for reason in sample.skipped} - self.skipped
        for reason in sorted(new):
            self.skipped.add(reason)
            self.run.event("unreadable_image", reason)
            if is_main():
                tqdm.write(f"passed over: {reason}")
        limit = skip_limit(len(self.training))
        if len(self.skipped) > limit:
            raise UserError(
                f"{len(self.skipped)} pictures cannot be read, more than the {limit} that training may pass over",
                where=str(self.training.dataset.path),
                fix="tools/check_data.py lists and mends them",
            )

    def _after_step(self) -> None:
        plan, done = self.plan, self.steps_done
        last = done == plan.iterations
        if plan.evaluation_period > 0 and done % plan.evaluation_period == 0 and not last:
            self._align()
            with self.shares.measure("evaluation", whole=True):
                self.evaluate(self.scored_model, done)
            self.detector.train()
        if done % plan.checkpoint_period == 0 or last:
            self.save(step_file(done - 1))

    def _align(self) -> None:
        share_buffers([self.detector] if self.averaged is None else [self.detector, self.averaged])

    def save(self, name: str) -> None:
        """Write a checkpoint; every process calls it, the main one writes."""
        self._align()
        states = gather(capture_random_state())
        if not is_main():
            return
        content: dict[str, Any] = {
            "model": self.scored_model.state_dict(),
            "numbers": moved_numbers(self.detector, self.numbers_at_start),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": _plain_state(self.scheduler.state_dict()),
            "iteration": self.steps_done - 1,
            "sampler": self.sampler.state_dict(),
            "random": states,
            "time": self.shares.state_dict(),
            "rexdet": {**self.identity.as_dict(), "holds": "ema" if self.averaged is not None else "raw"},
        }
        if (place := stride_place(self.detector)) is not None:
            # No tensor tells where a ResNet's stride stands.
            content["rexdet"]["stride_in"] = place
        if self.stepper.scaler.is_enabled():
            content["scaler"] = self.stepper.scaler.state_dict()
        if self.averaged is not None:
            content["raw"] = self.detector.state_dict()
            content["ema"] = self.averaged.state_dict()
        save_checkpoint(self.run.folder, name, content)


def _plain_state(state: dict[str, Any]) -> dict[str, Any]:
    """A schedule's state without what is an object: it is rebuilt from the config."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | bool | list)}


def _distributed(detector: nn.Module, device: torch.device) -> nn.Module:
    if world_size() == 1:
        return detector
    return DistributedDataParallel(
        detector, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=False
    )
