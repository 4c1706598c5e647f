"""What is kept first: a score for every class of channels."""

from __future__ import annotations

import torch
from torch import Tensor

# gradient: the paper's. magnitude: what the released code of its ResNet-50 does; a null by construction, since latent
# numbers begin as N(0, 1) and two steps hardly move them. random: the control.
CRITERIA = ("gradient", "magnitude", "random")


def scores(criterion: str, latent: Tensor, gradient: Tensor | None, seed: int) -> Tensor:
    """The score of each class, (classes,), at least 0; the higher, the sooner it is kept.

    latent: the latent numbers after the last step. gradient: the loss's gradient with respect to them in the last
    mini-batch; only "gradient" looks at it. seed: of "random", which looks at nothing else.
    """
    if criterion == "gradient":
        if gradient is None:
            raise ValueError("the criterion gradient needs a gradient")
        return gradient.abs()
    if criterion == "magnitude":
        return latent.abs()
    if criterion == "random":
        return torch.rand(len(latent), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raise ValueError(f"criterion {criterion!r} is not one of {', '.join(CRITERIA)}")
