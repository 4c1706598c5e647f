"""What a protocol says of the optimiser: learning rates of every step, the optimiser, averaged weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rexdet.errors import UserError
from rexdet.inference.compile import compiler
from rexdet.processes import world_size
from rexdet.runs import Recipe
from rexdet.transfer.protocols import Protocol


def learning_rates(protocol: Protocol, steps: int) -> list[float]:
    """The learning rate of each step, by torch's own schedules; the first of a warm-up of w steps has 1/w of it."""
    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=protocol.learning_rate)
    warm_up = warm_up_steps(protocol, steps)
    schedule = _schedule(protocol, dummy, steps, warm_up)
    rates = []
    for _ in range(steps):
        rates.append(float(dummy.param_groups[0]["lr"]))
        dummy.step()
        schedule.step()
    return rates


def warm_up_steps(protocol: Protocol, steps: int) -> int:
    """Steps of the warm-up; 0 where it would be a single one."""
    warm_up = round(protocol.warm_up * steps)
    return warm_up if warm_up > 1 else 0


def _schedule(protocol: Protocol, optimiser: torch.optim.Optimizer, steps: int, warm_up: int) -> LRScheduler:
    after: LRScheduler
    if warm_up:
        rising = LinearLR(optimiser, start_factor=1 / warm_up, total_iters=warm_up - 1)
    kind = protocol.schedule.kind
    if kind == "cosine":
        after = CosineAnnealingLR(optimiser, T_max=max(steps - warm_up, 1))
    elif kind == "step":
        falls = [round(share * steps) - warm_up for share in protocol.schedule.at]
        after = MultiStepLR(optimiser, milestones=falls, gamma=protocol.schedule.factor)
    else:
        after = ConstantLR(optimiser, factor=1.0, total_iters=0)
    return SequentialLR(optimiser, [rising, after], milestones=[warm_up]) if warm_up else after


def make_optimiser(protocol: Protocol, network: nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW over every parameter that learns."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if protocol.optimizer == "adamw":
        return torch.optim.AdamW(learning, lr=protocol.learning_rate, weight_decay=protocol.weight_decay)
    return torch.optim.SGD(
        learning,
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        nesterov=protocol.nesterov,
        weight_decay=protocol.weight_decay,
    )


def make_average(protocol: Protocol, network: nn.Module) -> AveragedModel | None:
    """The exponential average of parameters and norms' statistics that the protocol asks for, or None."""
    if protocol.ema is None:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(protocol.ema), use_buffers=True)


def set_norm_momentum(network: nn.Module, momentum: float | None) -> None:
    """The share of a batch's statistics in a norm's running ones (PyTorch's `momentum`); None leaves the network's."""
    if momentum is None:
        return
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


def compiled(network: nn.Module, wanted: bool) -> nn.Module:
    """The network as torch.compile runs it, parameters shared. Raises UserError on a CPU without a C++ compiler."""
    if not wanted:
        return network
    if all(parameter.device.type == "cpu" for parameter in network.parameters()) and compiler() is None:
        raise UserError("torch.compile needs a C++ compiler and none was found", "compile", "install g++, or leave it")
    return torch.compile(network)  # type: ignore[return-value]


def network_options(protocol: Protocol) -> dict[str, Any]:
    """What a protocol asks of a network's constructor (`create_model(name, **options)`): drop path, or nothing."""
    return {"drop_path": protocol.drop_path} if protocol.drop_path else {}


def check_network(protocol: Protocol, network: nn.Module) -> None:
    """Raise UserError where the protocol asks for drop path and the network was built without."""
    has_it = any(type(module).__name__ in ("DropPath", "StochasticDepth") for module in network.modules())
    if protocol.drop_path and not has_it:
        raise UserError(
            f"drop_path is {protocol.drop_path:g}, and the network has no drop path",
            f"protocol {protocol.name}",
            "set it to 0, or take a network that has it",
        )


def recipe(protocol: Protocol, steps: int) -> Recipe:
    """The protocol as a run's record tells of it."""
    nesterov = " Nesterov" if protocol.nesterov else ""
    optimiser = f"SGD{nesterov}, momentum {protocol.momentum:g}" if protocol.optimizer == "sgd" else "AdamW"
    schedule: str = protocol.schedule.kind
    if schedule == "step":
        falls = ", ".join(str(round(share * steps)) for share in protocol.schedule.at)
        schedule = f"x{protocol.schedule.factor:g} at {falls}"
    warm_up = warm_up_steps(protocol, steps)
    return Recipe(
        effective_batch=protocol.batch_size,
        per_process_batch=protocol.batch_size // world_size(),
        accumulation=1,
        world_size=world_size(),
        optimizer=f"{optimiser}, weight decay {protocol.weight_decay:g}",
        base_lr=protocol.learning_rate,
        warm_up=f"linear, {warm_up} steps" if warm_up else None,
        schedule=schedule,
        iterations=steps,
        amp=protocol.amp,
        ema=protocol.ema,
    )
