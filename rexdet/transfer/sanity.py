"""Does a network still see? One line before a run, from a few training images and no label.

A file can load without complaint and hold a last stage that nobody trained, or norms whose statistics belong to other
weights: nearest neighbours then find 0.5%, a linear probe NaN. Two things tell, and neither needs ImageNet's images:

- Each batch norm is told by its running statistics what it will meet. On pictures a trained network's norms meet about
  that (`drift`); random statistics, and weights that did not come with them, are off by a whole deviation and more.
- The checkpoint's own head, if it has one, tells pictures apart: its predictions differ from image to image. How much,
  is the mutual information between image and predicted class (`told_apart`), 0 nats for a head that says the same of
  every picture, at most the logarithm of the number of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.transfer.evaluate import evaluation_mode

# Measured on EfficientNet-Lite0 (ImageNet's pictures, Flowers-17) and a CIFAR ResNet-20, and on the same networks with
# a random last stage or random statistics: docs/probes.md has the numbers.
MOST_DRIFT = 1.5
LEAST_TOLD_APART = 0.1
FEWEST_IMAGES = 16
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Sanity:
    """drift: of the worst norm, in deviations (see `norm_drift`), None for a network without batch norms; worst: which.
    told_apart: nats, None for a network without a classifier of its own. images: how many were looked at.
    suspicions: what is unlikely of a trained network, in words; empty where nothing is.
    """

    drift: float | None
    worst: str
    told_apart: float | None
    images: int
    suspicions: tuple[str, ...]

    @property
    def line(self) -> str:
        """For a person, one line."""
        parts = []
        if self.drift is not None:
            parts.append(f"norms meet what they expect within {self.drift:.2f} deviations")
        if self.told_apart is not None:
            parts.append(f"its own head tells {self.images} images apart by {self.told_apart:.2f} nats")
        if self.suspicions:
            return f"SUSPICIOUS: {'; '.join(self.suspicions)}"
        return f"sanity: {', '.join(parts) or 'nothing that could be checked'}"

    def as_metrics(self) -> dict[str, float | None]:
        """The numbers as a run's record holds them."""
        return {"norm_drift": self.drift, "told_apart_nats": self.told_apart, "suspicions": float(len(self.suspicions))}


@torch.no_grad()
def check_before_run(network: nn.Module, images: Tensor, *, has_own_head: bool = True) -> Sanity:
    """Look at a network with its checkpoint before it is trained or probed; it stays as it is.

    images: (B, 3, S, S) float, normalised, of the training split, of several classes; 16 or more, 64 say more.
    has_own_head: the network still has the classifier that came with the checkpoint.

    Raises ValueError for fewer images.
    """
    if len(images) < FEWEST_IMAGES:
        raise ValueError(f"{len(images)} images say too little: give {FEWEST_IMAGES} or more")
    with evaluation_mode(network), _inputs_of_norms(network) as met:
        outputs = network(images)
    drifts = {path: norm_drift(network.get_submodule(path), mean, variance) for path, (mean, variance) in met.items()}
    worst = max(drifts, key=lambda path: drifts[path]) if drifts else ""
    drift = drifts[worst] if drifts else None
    told = told_apart(outputs) if has_own_head and isinstance(outputs, Tensor) and outputs.dim() == 2 else None
    suspicions = []
    if drift is not None and not drift <= MOST_DRIFT:
        suspicions.append(
            f"the norm {worst} meets numbers {drift:.1f} deviations from its running statistics: they belong to other "
            "weights, or the pixels are wrong"
        )
    untouched = [path for path in met if _is_untouched(network.get_submodule(path))]
    if untouched:
        more = f" (and {len(untouched) - 1} more)" if len(untouched) > 1 else ""
        suspicions.append(f"the norm {untouched[0]}{more} has mean 0 and variance 1: no training has touched it")
    if told is not None and not told >= LEAST_TOLD_APART:
        suspicions.append(f"its own head says nearly the same of every image ({told:.3f} nats)")
    return Sanity(drift, worst, told, len(images), tuple(suspicions))


def norm_drift(norm: nn.Module, mean: Tensor, variance: Tensor) -> float:
    """How far what a norm met is from its running statistics, in deviations: the median over its channels.

    mean, variance: (C) of what it met. A channel's drift is |difference of means| over the larger of the two
    deviations, plus |log2 of their ratio|: neither a shift nor another scale goes unseen.
    """
    running_mean, running_var, eps = _expected(norm)
    expected, found = (running_var + eps).sqrt(), (variance.double() + eps).sqrt()
    shift = (mean.double() - running_mean).abs() / torch.maximum(expected, found)
    drift = shift + (found / expected).log2().abs()
    return float(drift.nan_to_num(nan=torch.inf).median())


def told_apart(logits: Tensor) -> float:
    """(B, K) logits -> mutual information of image and predicted class in nats, 0 to log(min(B, K))."""
    shares = logits.double().softmax(1)
    return float(_entropy(shares.mean(0)) - _entropy(shares).mean())


def _entropy(shares: Tensor) -> Tensor:
    return -torch.special.xlogy(shares, shares).sum(-1)


def _is_untouched(norm: nn.Module) -> bool:
    running_mean, running_var, _ = _expected(norm)
    return not bool(running_mean.any()) and bool((running_var == 1).all())


def _expected(norm: nn.Module) -> tuple[Tensor, Tensor, float]:
    """Running mean and variance, float64, and eps of a norm that keeps them."""
    mean, variance = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        raise TypeError(f"{type(norm).__name__} keeps no running statistics")
    return mean.double(), variance.double(), float(getattr(norm, "eps", 0.0))


@contextmanager
def _inputs_of_norms(network: nn.Module) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Within the block, mean and variance a channel of what each batch norm with running statistics meets."""
    met: dict[str, tuple[Tensor, Tensor]] = {}

    def note(path: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].float()
            across = [dimension for dimension in range(x.dim()) if dimension != 1]
            variance, mean = torch.var_mean(x, across, correction=0)
            met[path] = (mean, variance)

        return look

    hooks = [
        module.register_forward_pre_hook(note(path))
        for path, module in network.named_modules()
        if isinstance(module, _NORMS) and module.running_mean is not None
    ]
    try:
        yield met
    finally:
        for hook in hooks:
            hook.remove()
