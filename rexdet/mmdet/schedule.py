"""Learning rates where a run goes on: to the bit where the schedule is the same, the new one's where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What of a scheduler's state moves as a run goes on. The rest is what the config says.
_MOVING = ("last_step", "_global_step", "_last_value")


def restore_schedules(runner: Any, content: Mapping[str, Any]) -> list[str]:
    """Load optimiser and schedules of a checkpoint into a runner whose own are fresh; returns what is to be told.

    A schedule is a function of the step: where the config's is another one than the checkpoint's, the next step follows
    the config's, as if it had been so from the beginning.
    """
    schedulers = _flat(runner.param_schedulers)
    saved = _flat(content.get("param_schedulers", []))
    same = len(schedulers) == len(saved) and all(
        _constant(scheduler.state_dict()) == _constant(state)
        for scheduler, state in zip(schedulers, saved, strict=True)
    )
    if same:
        runner.optim_wrapper.load_state_dict(content["optimizer"])
        for scheduler, state in zip(schedulers, saved, strict=True):
            scheduler.load_state_dict({key: state[key] for key in _MOVING if key in state})
        return []
    groups = runner.optim_wrapper.param_groups
    _replay(runner, schedulers)
    fresh = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    runner.optim_wrapper.load_state_dict(content["optimizer"])
    for group, values in zip(runner.optim_wrapper.param_groups, fresh, strict=True):
        group.update(values)
    return ["the schedule is not the one that the run was started with: the new one holds from here on"]


def _flat(schedulers: Any) -> list[Any]:
    return list(schedulers) if schedulers is not None else []


def _constant(state: Mapping[str, Any]) -> dict[str, Any]:
    constant = {key: value for key, value in state.items() if key not in _MOVING}
    # A counter of milestones is a dict once it was in a file.
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in constant.items()}


def _replay(runner: Any, schedulers: list[Any]) -> None:
    """Let fresh schedulers take the steps that the run has done; what hangs on evaluations is left as it is."""
    loop = runner.train_loop
    length = len(runner.train_dataloader)
    counted = [scheduler for scheduler in schedulers if not getattr(scheduler, "need_val_args", False)]
    runner.optim_wrapper.optimizer._global_step = 0
    for iteration in range(1, loop.iter + 1):
        for scheduler in counted:
            if not scheduler.by_epoch:
                scheduler.step()
        if iteration % length == 0 and iteration // length <= loop.epoch:
            for scheduler in counted:
                if scheduler.by_epoch:
                    scheduler.step()
