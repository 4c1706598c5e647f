"""The layers that the networks share: norms, convolution units, squeeze-excitation, drop path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-5
NORMS = ("BN", "FrozenBN", "SyncBN", "GN")


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that also trains where a channel has one value only.

    (B, C, H, W) -> the same shape. In training, a channel with a single value (squeeze-excitation at batch 1) has no
    variance to normalise by, so the running statistics are used, as in evaluation. `updates_statistics` is switched
    off while activation checkpointing computes a forward pass for the second time. `is_held` is switched on in stages
    that an engine freezes without changing their modules: their units then compute what those of frozen norms do.
    """

    updates_statistics = True
    is_held = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        if x.numel() == self.num_features:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if not self.updates_statistics:
            # Copies take the update: without any, autograd would save fewer tensors than the first pass did.
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(
                x,
                None if mean is None else mean.clone(),
                None if variance is None else variance.clone(),
                self.weight,
                self.bias,
                True,
                0.0,
                self.eps,
            )
        return super().forward(x)


class SyncBatchNorm(nn.SyncBatchNorm):
    """Batch norm over all processes; trains on CUDA only. `updates_statistics` and `is_held` as in BatchNorm2d."""

    updates_statistics = True
    is_held = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.updates_statistics:
            return super().forward(x)
        kept = self.running_mean, self.running_var, self.num_batches_tracked
        try:
            self.running_mean, self.running_var, self.num_batches_tracked = (
                None if buffer is None else buffer.clone() for buffer in kept
            )
            return super().forward(x)
        finally:
            self.running_mean, self.running_var, self.num_batches_tracked = kept


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are constants (buffers): it never learns nor drifts.

    (B, C, H, W) -> the same shape. It calls the kernel that evaluation-mode batch norm calls, with the trained norm's
    eps, so it is bit-equal to it, also for variances near 0 and in half precision.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = NORM_EPSILON) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    @classmethod
    def from_trained(cls, norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> FrozenBatchNorm2d:
        """The frozen form of a batch norm: the same function as that norm in evaluation mode."""
        frozen = cls(norm.num_features, norm.eps)
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                value = getattr(norm, name)
                if value is not None:
                    frozen.register_buffer(name, value.detach().clone())
        frozen.train(norm.training)
        return frozen

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # A trained norm's counter means nothing to a norm that does not count.
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def is_constant(norm: nn.Module) -> bool:
    """Whether a norm never changes: a frozen one, or a batch norm of ours that is held (`is_held`) and evaluates."""
    return type(norm) is FrozenBatchNorm2d or (bool(getattr(norm, "is_held", False)) and not norm.training)


def group_count(channels: int, limit: int = 32) -> int:
    """The largest number of groups up to `limit` that divides `channels`.

    ReXNet's widths (38, 61, 185, ...) are rarely multiples of group norm's usual 32 groups.
    """
    return max(groups for groups in range(1, min(limit, channels) + 1) if channels % groups == 0)


def make_norm(kind: str, channels: int, *, pooled: bool = False) -> nn.Module:
    """A norm over `channels` channels.

    kind: one of NORMS. pooled: the norm sees 1 x 1 maps (inside squeeze-excitation); group norm then takes a single
    group, since a group of one value would always be normalised to 0.
    Raises ValueError for another kind.
    """
    if kind == "BN":
        return BatchNorm2d(channels, eps=NORM_EPSILON)
    if kind == "FrozenBN":
        return FrozenBatchNorm2d(channels, eps=NORM_EPSILON)
    if kind == "SyncBN":
        return SyncBatchNorm(channels, eps=NORM_EPSILON)
    if kind == "GN":
        return nn.GroupNorm(1 if pooled else group_count(channels), channels, eps=NORM_EPSILON)
    raise ValueError(f"norm {kind!r} is not one of {', '.join(NORMS)}")


def freeze_norms(module: nn.Module) -> nn.Module:
    """Replace every batch norm inside `module` by its frozen form; returns the module, or what replaces it."""
    if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
        return FrozenBatchNorm2d.from_trained(module)
    for name, child in module.named_children():
        replacement = freeze_norms(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


# Those that need only their output for the backward pass work in place; SiLU and others keep their input anyway.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(inplace=True),
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "identity": nn.Identity,
}


def make_activation(name: str) -> nn.Module:
    """An activation by name. Raises ValueError for a name that is not in ACTIVATIONS."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def fold_norm(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that does what `conv` and then `norm` in evaluation mode do.

    The scale is computed in float32 at least, also for half-precision weights, and with the norm's own eps, so that
    variances near 0 stay finite. Equal to the two steps within rounding (1e-6 of |mean| / sqrt(variance + eps)).
    """
    if norm is None:
        plain = conv.weight
        return plain, plain.new_zeros(plain.shape[0]) if conv.bias is None else conv.bias
    mean, variance, gain, offset = (
        cast("Tensor | None", getattr(norm, name)) for name in ("running_mean", "running_var", "weight", "bias")
    )
    assert mean is not None
    assert variance is not None
    wide = torch.promote_types(conv.weight.dtype, torch.float32)
    scale = torch.rsqrt(variance.to(wide) + cast("float", norm.eps))
    if gain is not None:
        scale = scale * gain
    shift = -mean.to(wide) if conv.bias is None else conv.bias - mean.to(wide)
    shift = shift * scale if offset is None else torch.addcmul(offset.to(wide), shift, scale)
    weight = conv.weight * scale.reshape(-1, 1, 1, 1)
    return weight.to(conv.weight.dtype), shift.to(conv.weight.dtype)


class ConvolutionUnit(nn.Module):
    """Convolution, norm, activation: (B, C_in, H, W) -> (B, C_out, ceil(H/stride), ceil(W/stride)).

    norm: as in `make_norm`, or "" for none; the convolution then has a bias.
    A norm whose statistics are constants for good (`is_constant`) is folded into the convolution at every call, so
    that the map is walked once less, forward and backward, and nothing is kept that could go stale.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: str = "BN",
        activation: str = "identity",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=groups,
            bias=not norm,
        )
        self.norm = make_norm(norm, out_channels) if norm else nn.Identity()
        self.activation = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        if self._folds():
            conv = self.conv
            weight, bias = fold_norm(conv, self.norm)
            return self.activation(F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups))
        return self.activation(self.norm(self.conv(x)))

    def _folds(self) -> bool:
        if type(self.conv) is not nn.Conv2d or not is_constant(self.norm):
            return False
        if self.conv._forward_hooks or self.norm._forward_hooks or self.conv._forward_pre_hooks:
            return False  # Somebody wants to see the two steps.
        # Compilers and exporters fold by themselves, and find the norm by its operator.
        return not (torch.compiler.is_compiling() or torch.jit.is_tracing())


# Older torch does not tell compiling from exporting.
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class MaxPool2d(nn.MaxPool2d):
    """Max-pooling that torch.export takes with free height and width: (B, C, H, W) -> (B, C, H', W').

    torch decides there from the example whether a stride divides a size, and then fixes the answer for every image. So
    while exporting, the pooling takes every pixel, and every stride-th is read.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not _is_exporting():
            return super().forward(x)
        every = F.max_pool2d(x, self.kernel_size, 1, self.padding)
        return every[:, :, :: self.stride, :: self.stride]


class SqueezeExcitation(nn.Module):
    """Squeeze-excitation with a norm after the reducing layer, as ReXNet has it (rexnetv1.py of the authors' release).

    (B, C, H, W) -> (B, C, H, W): the input times a gate in (0, 1) a channel, computed from the channel means.
    """

    def __init__(self, channels: int, reduced_channels: int, norm: str = "BN") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, reduced_channels, 1)
        self.norm = make_norm(norm, reduced_channels, pooled=True)
        self.activation = make_activation("relu")
        self.expand = nn.Conv2d(reduced_channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1), values in (0, 1)."""
        pooled = x.mean((2, 3), keepdim=True)
        return torch.sigmoid(self.expand(self.activation(self.norm(self.reduce(pooled)))))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def check_rate(rate: float) -> None:
    """Raise ValueError for a drop path rate that is none."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop path rate {rate} is not in [0, 1)")


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., arXiv 1603.09382): drops a residual branch for whole samples while training.

    (B, ...) -> (B, ...). A branch is kept with probability 1 - rate and then scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_rate(rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        kept = torch.empty((x.shape[0], *([1] * (x.dim() - 1))), dtype=x.dtype, device=x.device)
        return x * (kept.bernoulli_(1.0 - self.rate) / (1.0 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Inside, training-mode batch norms of `module` normalise as ever but leave their running statistics alone."""
    norms = [part for part in module.modules() if isinstance(part, BatchNorm2d | SyncBatchNorm)]
    try:
        for norm in norms:
            norm.updates_statistics = False
        yield
    finally:
        for norm in norms:
            norm.updates_statistics = True


def initialise(module: nn.Module) -> None:
    """He initialisation by fan-out for convolutions, N(0, 0.01) for linear layers, 1 and 0 for norms.

    Source: He et al., arXiv 1502.01852; the usual choice for mobile networks. Depthwise filters count their own
    fan-out only. Drafts (tensors on the meta device) have no numbers to begin with, and torch takes long over them.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_out = part.kernel_size[0] * part.kernel_size[1] * part.out_channels // part.groups
            nn.init.normal_(part.weight, 0.0, math.sqrt(2.0 / fan_out))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.01)
            nn.init.zeros_(part.bias)
