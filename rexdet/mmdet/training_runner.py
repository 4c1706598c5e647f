"""mmengine's runner as a training here uses it, and checkpoints of its form."""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from torch import nn

from rexdet.mmdet.files import ATOMIC
from rexdet.mmdet.loops import VALIDATION_LOOP
from rexdet.mmdet.runner import RexDetRunner
from rexdet.processes import gather, world_size
from rexdet.runs.state import capture_random_state

if TYPE_CHECKING:
    from rexdet.mmdet.train import Training

# mmengine's own hooks call what mmengine is going to remove.
_NO_NEWS = ("FileClient", "HardDiskBackend")


def plain_hub(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a message hub without histories and other objects."""
    info = OrderedDict((key, value) for key, value in state["runtime_info"].items() if _is_plain(value))
    kept = {key: value for key, value in state["resumed_keys"].items() if key in info}
    return {"log_scalars": OrderedDict(), "runtime_info": info, "resumed_keys": OrderedDict(kept)}


def plain_schedules(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The states of schedules with counters of milestones as dicts, which do the same."""
    return [
        {key: dict(value) if isinstance(value, dict) else value for key, value in state.items()} for state in states
    ]


def _is_plain(value: Any) -> bool:
    if type(value) in (int, float, str, bool, type(None)):
        return True
    if type(value) in (list, tuple):
        return all(_is_plain(part) for part in value)
    return type(value) is dict and all(_is_plain(part) for pair in value.items() for part in pair)


class _StateHook(Hook):
    """Completes mmengine's checkpoints, after every other hook has put its own into them."""

    priority = "LOWEST"

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        runner.training.add_state(checkpoint, *runner.being_saved)


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


class TrainingRunner(RexDetRunner):
    """mmengine's runner for a model that is built already, with checkpoints that are whole and complete."""

    training: Training
    _consoles: list[tuple[logging.Handler, int]]
    being_saved: tuple[list[dict[str, Any]], str]

    @classmethod
    def of(cls, training: Training, cfg: Config, val_loader: Any) -> TrainingRunner:
        """A runner for a training, as `cfg` says. val_loader: None where nothing is scored."""
        scored = val_loader is not None
        runner = cls(
            model=training.detector,
            work_dir=str(training.run.folder),
            train_dataloader=training.loader,
            val_dataloader=val_loader,
            train_cfg=dict(cfg.train_cfg),
            val_cfg={"type": VALIDATION_LOOP} if scored else None,
            val_evaluator=[] if scored else None,
            optim_wrapper=cfg.optim_wrapper,
            param_scheduler=cfg.get("param_scheduler"),
            auto_scale_lr=cfg.get("auto_scale_lr"),
            default_hooks=cfg.get("default_hooks"),
            custom_hooks=cfg.get("custom_hooks"),
            launcher="pytorch" if world_size() > 1 else "none",
            env_cfg=cfg.get("env_cfg", {}),
            log_processor=cfg.get("log_processor"),
            log_level=cfg.get("log_level", "INFO"),
            visualizer=cfg.get("visualizer"),
            default_scope=cfg.get("default_scope", "mmdet"),
            randomness={"seed": training.seed},
            # mmengine keeps loggers and histories by this name: each run has its own.
            experiment_name=f"{training.plan.name}_{secrets.token_hex(4)}",
            cfg=cfg,
        )
        runner.training = training
        runner.register_hook(_StateHook())
        return runner

    def build_logger(self, *arguments: Any, **keywords: Any) -> Any:
        """mmengine's logger. What it says before training (surroundings, config, hooks) goes to its file alone."""
        logger = super().build_logger(*arguments, **keywords)
        self._consoles = [(handler, handler.level) for handler in logger.handlers if _is_console(handler)]
        for handler, _ in self._consoles:
            handler.setLevel(logging.ERROR)
            handler.addFilter(lambda record: not any(word in record.getMessage() for word in _NO_NEWS))
        return logger

    def _init_model_weights(self) -> None:
        """Nothing: the weights are loaded before a runner is made."""

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """As in mmengine; several processes may share a CPU, too."""
        if not self.distributed or next(model.parameters()).is_cuda:
            wrapped: nn.Module = super().wrap_model(model_wrapper_cfg, model)
            return wrapped
        return MMDistributedDataParallel(
            module=model,
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get("find_unused_parameters", False),
        )

    def load_or_resume(self) -> None:
        """Take over the run's state where it goes on; the optimiser and its schedules are there by now."""
        self.training.guard(self.optim_wrapper)
        if self.training.content is not None:
            self.training.restore()
        self._has_loaded = True
        for handler, level in self._consoles:
            handler.setLevel(level)

    def save_checkpoint(self, out_dir: str, filename: str, *arguments: Any, **keywords: Any) -> None:
        """As in mmengine, whole or not at all, and with everything that going on to the bit needs.

        Every process calls it, the main one writes.
        """
        self.training.align()
        self.being_saved = (gather(capture_random_state()), filename)
        if not keywords.get("backend_args") and "://" not in out_dir:
            keywords["backend_args"] = {"backend": ATOMIC}
        super().save_checkpoint(out_dir, filename, *arguments, **keywords)
