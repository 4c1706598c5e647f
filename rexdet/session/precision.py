"""What numbers are computed in, and how: the same in the first step of a process as in every other."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def as_written() -> AbstractContextManager[None]:
    """Inside, TorchScript runs functions as they are written, the first time like every other time.

    Its optimiser watches the first calls in a process and rewrites the function for later ones, with other rounding.
    detectron2's focal loss is such a function: a resumed run would differ from the unbroken one in its first step.
    """
    return torch.jit.optimized_execution(False)


def autocast_type(amp: str | None) -> torch.dtype | None:
    """The type that mixed precision computes in; None for float32."""
    return {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
