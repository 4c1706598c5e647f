"""Mixed precision for mmengine's training, on the CPU as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.mmdet.operators import COMPILED, operators_in_use


@OPTIM_WRAPPERS.register_module()
class RexDetAmpOptimWrapper(OptimWrapper):
    """mmengine's AmpOptimWrapper, which works on CUDA alone, for every device.

    dtype: "bfloat16" or "float16". loss_scale: as AmpOptimWrapper takes it; losses are scaled for float16 on CUDA only.
    """

    def __init__(self, dtype: str = "bfloat16", loss_scale: Any = "dynamic", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float16
        on_cuda = self.optimizer.param_groups[0]["params"][0].is_cuda
        scale: dict[str, Any] = {}
        if isinstance(loss_scale, int | float):
            # A static scale never grows.
            scale = {"init_scale": float(loss_scale), "growth_interval": 2**31 - 1}
        elif isinstance(loss_scale, dict):
            scale = dict(loss_scale)
        self.scaler = torch.amp.GradScaler("cuda", enabled=on_cuda and self.dtype == torch.float16, **scale)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """As in mmengine, the forward pass in mixed precision."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=self.dtype):
            yield

    def backward(self, loss: Tensor, **arguments: Any) -> None:
        """Scale and go backward."""
        self.scaler.scale(loss).backward(**arguments)
        self._inner_count += 1

    def step(self, **arguments: Any) -> None:
        """Unscale, clip, and step."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **arguments)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state with that of the scaling."""
        return {**super().state_dict(), "loss_scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        state = dict(state_dict)
        self.scaler.load_state_dict(state.pop("loss_scaler", {}) or {})
        super().load_state_dict(state)


def check_operators(amp: str | None, device: torch.device) -> None:
    """Raise UserError for mixed precision that mmcv's operators do not take.

    amp: a plan's. Compiled mmcv suppresses boxes and aligns regions in float32 alone on a CPU, and would stop the
    first evaluation; torchvision's operators, which stand in for it, take every type.
    """
    if amp is not None and device.type == "cpu" and operators_in_use() == COMPILED:
        raise UserError(
            "compiled mmcv's operators take float32 alone on a CPU, and mixed precision is asked for",
            fix="leave it out (--amp, AmpOptimWrapper), or train where make setup-mmdet alone was run",
        )
