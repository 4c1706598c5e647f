"""mmengine's training loops, made to carry their position within an epoch, and a validation loop that scores as we do.

The hooks are called as in mmengine, with the same arguments, so that hooks, schedules and optimisers of any config
work as their users know them. What a loop does with a batch, `Training` (rexdet.mmdet.train) tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.utils import calc_dynamic_intervals

if TYPE_CHECKING:
    from rexdet.mmdet.train import Training

EPOCH_LOOP = "RexDetEpochLoop"
ITERATION_LOOP = "RexDetIterationLoop"
VALIDATION_LOOP = "RexDetValidationLoop"


@LOOPS.register_module(name=EPOCH_LOOP)
class EpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, which goes on within one."""

    def run(self) -> Any:
        """Train the epochs that are left."""
        training: Training = self.runner.training
        self.runner.call_hook("before_train")
        if self._at_boundary() and self._epoch and self._due():
            # The run was cut off between the checkpoint of an epoch and its evaluation.
            training.make_up_evaluation()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self._due():
                self.runner.val_loop.run()
        self.runner.call_hook("after_train")
        return self.runner.model

    def _at_boundary(self) -> bool:
        return bool(self._iter == self._epoch * len(self.dataloader))

    def _due(self) -> bool:
        """Whether an evaluation follows on the epoch that has just ended."""
        if self.runner.val_loop is None or self._epoch < self.val_begin:
            return False
        return bool(self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs)

    def run_epoch(self) -> None:
        """Train what is left of this epoch."""
        training: Training = self.runner.training
        done = self._iter - self._epoch * len(self.dataloader)
        if not done:
            training.begin_random()
        self.runner.call_hook("before_train_epoch")
        training.begin_random()
        self.runner.model.train()
        with training.batches(len(self.dataloader) - done) as batches:
            for index in range(done, len(self.dataloader)):
                training.step(self, index, batches)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module(name=ITERATION_LOOP)
class IterationLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations, which goes on where it was without loading again what came before."""

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
    ) -> None:
        # Not mmengine's own, which starts to read batches here.
        BaseLoop.__init__(self, runner, dataloader)
        self._max_iters = int(max_iters)
        self._max_epochs = 1
        self._epoch = 0
        self._iter = 0
        self.val_begin = val_begin
        self.val_interval = val_interval
        self.stop_training = False
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)

    def run(self) -> Any:
        """Train the iterations that are left."""
        training: Training = self.runner.training
        self.runner.call_hook("before_train")
        if self._iter and self._due():
            training.make_up_evaluation()
        if not self._iter:
            training.begin_random()
        self.runner.call_hook("before_train_epoch")
        training.begin_random()
        with training.batches(self._max_iters - self._iter) as batches:
            while self._iter < self._max_iters and not self.stop_training:
                self.runner.model.train()
                training.step(self, self._iter, batches)
                self._decide_current_val_interval()
                if self._due():
                    self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _due(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return bool(self._iter % self.val_interval == 0 or self._iter == self._max_iters)


@LOOPS.register_module(name=VALIDATION_LOOP)
class ValidationLoop(BaseLoop):
    """A validation that scores with the 12 numbers, between the hooks of mmengine's."""

    def __init__(self, runner: Any, dataloader: Any, evaluator: Any = None, **_: Any) -> None:
        super().__init__(runner, dataloader)

    def run(self) -> dict[str, float]:
        """Score the model as it is now; returns the numbers by mmengine's names ("coco/bbox_mAP") and by ours."""
        runner = self.runner
        runner.call_hook("before_val")
        runner.call_hook("before_val_epoch")
        runner.model.eval()
        metrics: dict[str, float] = runner.training.evaluate()
        runner.call_hook("after_val_epoch", metrics=metrics)
        runner.call_hook("after_val")
        return metrics
