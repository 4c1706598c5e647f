"""A training run through mmengine's runner that can stop at any moment and go on to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import torch
from mmengine.hooks import EMAHook
from torch import nn

from rexdet.errors import UserError
from rexdet.files import write_text_atomically
from rexdet.mmdet import amp  # noqa: F401 - registers what a plan may name
from rexdet.mmdet.checkpoint import STATE
from rexdet.mmdet.data import Batch, TrainingLoader, TrainingSet
from rexdet.mmdet.plan import Plan
from rexdet.mmdet.replay import losses_again, plain_batch
from rexdet.mmdet.schedule import restore_schedules
from rexdet.mmdet.training_runner import TrainingRunner, plain_hub, plain_schedules
from rexdet.nets.resnet import stride_place
from rexdet.processes import is_main, rank, share, share_buffers, world_size
from rexdet.runs.run import Run
from rexdet.runs.state import ResumableSampler, capture_random_state, restore_random_state, seed_everything
from rexdet.runs.timing import TimeShares
from rexdet.session.checkpoints import FINAL, LAST, Identity
from rexdet.session.data import skip_limit
from rexdet.session.hidden import moved_numbers, plain_numbers, set_numbers
from rexdet.session.nonfinite import Before, NonFiniteLossError, finite_everywhere, give_up, is_finite
from rexdet.session.precision import as_written, autocast_type
from rexdet.session.say import say
from rexdet.session.scores import Scores
from rexdet.session.steps import StepLog

# What our metric is called in MMDetection's own: so that `save_best="coco/bbox_mAP"` of a config finds it.
_ALIASES = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "APs": "mAP_s", "APm": "mAP_m", "APl": "mAP_l"}


class Training:
    """The state of a run of MMDetection's models, and what its loops do.

    detector: the model on its device, its weights loaded. plan: what to do. training: the data.
    norm_eval: of the backbone. score: called with the model, in all processes together; gives the scores.
    after_evaluation: called with what the weights hold, the scores and the steps done, except at the end.
    pictures: draws what the model finds, at the end. content: the checkpoint to go on from, or None.
    """

    def __init__(
        self,
        detector: nn.Module,
        plan: Plan,
        training: TrainingSet,
        *,
        device: torch.device,
        seed: int,
        identity: Identity,
        norm_eval: bool,
        run: Run,
        score: Callable[[nn.Module], Scores],
        after_evaluation: Callable[[Literal["raw", "ema"], Scores, int], None],
        pictures: Callable[[nn.Module], None],
        val_loader: Any,
        content: dict[str, Any] | None,
    ) -> None:
        self.detector = detector
        self.plan = plan
        self.training = training
        self.device = device
        self.seed = seed
        self.identity = identity
        self.norm_eval = norm_eval
        self.run = run
        self.score = score
        self.after_evaluation = after_evaluation
        self.pictures = pictures
        self.content = content
        self.notes: list[str] = []
        self.numbers_at_start = plain_numbers(detector)
        self.sampler = ResumableSampler(
            len(training),
            seed,
            shuffle=plan.shuffle,
            rank=rank(),
            world_size=world_size(),
            batch_size=plan.batch * world_size(),
            groups=training.is_wide().tolist() if plan.group_by_aspect else None,
        )
        self.loader = TrainingLoader(
            training,
            self.sampler,
            batch=plan.batch,
            workers=plan.workers,
            steps=plan.steps_an_epoch(len(training)),
        )
        self.shares = TimeShares.for_device(device)
        self.skipped: set[str] = set()
        # Whether the last weights are scored and drawn.
        self.finished = False
        self.ended = False
        self.scores = Scores()
        self._random: dict[str, Any] | None = None
        self._random_begun = False
        self._log: StepLog | None = None
        self._micro_batch: tuple[Batch, Before] | None = None
        self.runner = TrainingRunner.of(self, plan.cfg, val_loader)

    @property
    def holds(self) -> Literal["raw", "ema"]:
        """ "ema" where the weights that are scored and saved are averaged ones, else "raw"."""
        return "ema" if self._ema() is not None else "raw"

    @property
    def steps_done(self) -> int:
        """Optimiser steps so far."""
        return -(-self.runner.iter // self.plan.accumulate)

    def train(self) -> None:
        """Run what is left, write the final checkpoint, and see that the last weights are scored.

        Raises UserError on a non-finite loss, after the step was saved for a replay.
        """
        self.shares.watch_backbone(getattr(self.detector, "backbone", self.detector))
        begun = int(self.content["meta"]["iter"]) if self.content is not None else 0
        self.runner.train()
        if self.runner.iter > begun or not (self.run.folder / FINAL).exists():
            self.save_final()
        if not self.finished:
            self.ended = True
            self.runner.val_loop.run()

    # -- what the loops call ----------------------------------------------------------------------------------------

    @contextmanager
    def batches(self, count: int) -> Iterator[Iterator[Batch]]:
        """An iterator over the next `count` batches."""
        self.loader.stretch = count
        if self._log is None:
            self._log = StepLog(self.run.folder, self.runner.iter)
        yield iter(self.loader)

    def begin_random(self) -> None:
        """Put the random numbers where the run goes on; the first time only."""
        if self._random_begun:
            return
        self._random_begun = True
        if self._random is None:
            seed_everything(self.seed, rank())
        else:
            self.notes += restore_random_state(self._random)

    def step(self, loop: Any, index: int, batches: Iterator[Batch]) -> None:
        """One iteration of a loop: a batch, forward, backward, and the optimiser's step where it is due."""
        runner = self.runner
        with self.shares.step(self.plan.batch * world_size()):
            with self.shares.measure("data"):
                batch = next(batches)
            runner.call_hook("before_train_iter", batch_idx=index, data_batch=batch.data)
            rate = runner.optim_wrapper.param_groups[0]["lr"]
            try:
                self._micro_batch = (batch, Before.of(self.detector))
                with self.shares.measure("neck_and_heads"), as_written():
                    outputs = runner.model.train_step(batch.data, optim_wrapper=runner.optim_wrapper)
            except NonFiniteLossError as trouble:
                self._give_up(trouble, loop.iter)
        self._micro_batch = None
        self.sampler.advance()
        self._count_skipped(batch)
        assert self._log is not None
        losses = {key: float(value.detach()) for key, value in outputs.items()}
        self._log.write(loop.iter + 1, rate, losses, batch.image_ids())
        runner.call_hook("after_train_iter", batch_idx=index, data_batch=batch.data, outputs=outputs)
        loop._iter += 1

    def evaluate(self) -> dict[str, float]:
        """Score the model; random numbers stay as they are. Returns the numbers for hooks, on every process."""
        self.align()
        before = capture_random_state()
        last = self.ended or self.runner.iter >= self.runner.max_iters
        with self.shares.measure("evaluation", whole=True):
            self.scores = scores = self.score(self.detector)
            if last:
                self.pictures(self.detector)
        restore_random_state(before)
        self.finished = last
        if not last:
            self.after_evaluation(self.holds, scores, self.steps_done)
        numbers: dict[str, float] = {}
        for kind, group in scores.parts()["metrics"].items():
            known = {key: value for key, value in group.items() if value is not None}
            numbers |= {f"coco/{kind}_{_ALIASES[key]}": known[key] for key in _ALIASES if key in known}
            numbers |= {f"coco/{kind}_{key}": value for key, value in known.items()}
        # Hooks decide by them in every process (which checkpoint is the best), and must decide alike.
        shared: dict[str, float] = share(numbers)
        return shared

    def align(self) -> None:
        """Let every process have the main one's statistics: each has moved its own, and the main one's are saved.

        So several processes score what is saved, and a resumed run goes on with what an unbroken one has.
        """
        ema = self._ema()
        share_buffers([self.detector] if ema is None else [self.detector, ema.ema_model])

    def make_up_evaluation(self) -> None:
        """Score a checkpoint whose evaluation the run did not live to see."""
        known = any(entry.iteration == self.steps_done for entry in self.run.record.evaluations)
        # The record is the main process's.
        if not share(known):
            self.runner.val_loop.run()

    # -- a loss that is not finite ----------------------------------------------------------------------------------

    def guard(self, optim_wrapper: Any) -> None:
        """Let no loss that is not finite reach the weights, and count the optimiser's own time apart."""
        update = optim_wrapper.update_params

        def checked(loss: torch.Tensor, *arguments: Any, **keywords: Any) -> None:
            value = float(loss.detach())
            if not finite_everywhere(is_finite(value), self.device):
                assert self._micro_batch is not None
                batch, before = self._micro_batch
                raise NonFiniteLossError(batch.data, batch.image_ids(), before, {"loss": value})
            update(loss, *arguments, **keywords)

        optim_wrapper.update_params = checked
        blocks: list[Any] = []

        def enter(*_: Any) -> None:
            blocks.append(self.shares.measure("other"))
            blocks[-1].__enter__()

        optim_wrapper.optimizer.register_step_pre_hook(enter)
        optim_wrapper.optimizer.register_step_post_hook(lambda *_: blocks.pop().__exit__(None, None, None))

    def _give_up(self, trouble: NonFiniteLossError, iteration: int) -> NoReturn:
        meta = {**self.identity.as_dict(), "engine": "mmdet", "norm_eval": self.norm_eval, "amp": self.plan.amp or ""}
        dtype = autocast_type(self.plan.amp)
        give_up(
            self.run,
            trouble,
            self.detector,
            step=iteration + 1,
            batch=plain_batch(trouble.inputs),
            meta=meta,
            losses=lambda: losses_again(self.detector, trouble.inputs, dtype, self.device),
        )

    def _count_skipped(self, batch: Batch) -> None:
        new = set(batch.skipped) - self.skipped
        for reason in sorted(new):
            self.skipped.add(reason)
            self.run.event("unreadable_image", reason)
            say(f"passed over: {reason}")
        limit = skip_limit(len(self.training.source))
        if len(self.skipped) > limit:
            raise UserError(
                f"{len(self.skipped)} pictures cannot be read, more than the {limit} that training may pass over",
                where=str(self.training.source.coco.path),
                fix="tools/check_data.py lists and mends them",
            )

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _ema(self) -> EMAHook | None:
        return next((hook for hook in self.runner._hooks if isinstance(hook, EMAHook)), None)

    def save_final(self) -> None:
        """Write the final checkpoint and let it count as the last; every process calls it."""
        runner = self.runner
        meta = {"epoch": runner.epoch, "iter": runner.iter}
        runner.save_checkpoint(str(self.run.folder), FINAL, meta=meta)
        if is_main():
            write_text_atomically(self.run.folder / LAST, FINAL)

    def add_state(self, checkpoint: dict[str, Any], states: list[dict[str, Any]], name: str) -> None:
        """Put into mmengine's checkpoint what going on to the bit needs beside it."""
        done = -(-int(checkpoint["meta"]["iter"]) // self.plan.accumulate)
        identity = {**self.identity.as_dict(), "engine": "mmdet", "norm_eval": self.norm_eval}
        identity |= {"holds": self.holds, "steps": done}
        if (place := stride_place(self.detector)) is not None:
            # No tensor tells where a ResNet's stride stands.
            identity["stride_in"] = place
        if name == FINAL:
            # This file is opened elsewhere too, where no object is allowed: histories are for a log's smoothing only.
            checkpoint["message_hub"] = plain_hub(checkpoint["message_hub"])
            if "param_schedulers" in checkpoint:
                checkpoint["param_schedulers"] = plain_schedules(checkpoint["param_schedulers"])
        checkpoint["rexdet"] = identity
        checkpoint[STATE] = {
            "sampler": self.sampler.state_dict(),
            "batch": self.sampler.batch_size,
            "random": states,
            "numbers": moved_numbers(self.detector, self.numbers_at_start),
            "time": self.shares.state_dict(),
            "gradients": self._gradients(),
            "keys": [*checkpoint, STATE],
        }

    def _gradients(self) -> dict[str, torch.Tensor]:
        """What has been accumulated towards the next step of the optimiser."""
        if self.runner.optim_wrapper._inner_count % self.plan.accumulate == 0:
            return {}
        named = self.detector.named_parameters()
        return {name: parameter.grad.cpu() for name, parameter in named if parameter.grad is not None}

    def restore(self) -> None:
        """Take over the state of the checkpoint; `notes` then tell what could not be continued to the bit."""
        content, runner = self.content, self.runner
        assert content is not None
        state = content[STATE]
        if (self._ema() is not None) != ("ema_state_dict" in content):
            what = "averaged weights" if "ema_state_dict" in content else "no averaged weights"
            raise UserError(f"the checkpoint holds {what}, which --ema contradicts", fix="resume with the same --ema")
        if state["batch"] != self.sampler.batch_size:
            raise UserError(
                f"the run was started with {state['batch']} pictures a forward pass over all processes, and there are "
                f"{self.sampler.batch_size} now",
                fix="start as many processes as before, or set train_dataloader.batch_size to match",
            )
        # EMAHook puts the raw weights back where they belong, and takes its own.
        runner._resume = True
        runner.call_hook("after_load_checkpoint", checkpoint=content)
        self.detector.load_state_dict(content["state_dict"])
        set_numbers(self.detector, state["numbers"])
        runner.message_hub.load_state_dict(content["message_hub"])
        runner.train_loop._epoch = int(content["meta"]["epoch"])
        runner.train_loop._iter = int(content["meta"]["iter"])
        self.notes += restore_schedules(runner, content)
        for name, gradient in state["gradients"].items():
            parameter = self.detector.get_parameter(name)
            parameter.grad = gradient.to(parameter.device)
        self.sampler.load_state_dict(state["sampler"])
        self.shares.load_state_dict(state["time"])
        if len(state["random"]) == world_size():
            self._random = state["random"][rank()]
        else:
            self.notes.append(
                f"written by {len(state['random'])} processes and resumed by {world_size()}: not bit-identical"
            )
