"""A way around a fault of oneDNN that damages memory while networks with very narrow layers are trained on a CPU.

The weights' gradient of a strided 1 x 1 convolution of fewer than 8 (AVX2) or 16 (AVX-512) channels in channels-last
layout writes past its workspace (oneDNN issue 6035; torch 2.11 with oneDNN 3.10 ends with "double free or corruption",
or goes on with damaged memory). Searches for widths leave such layers in the shortcuts of small ResNets.
"""

from __future__ import annotations

from torch import Tensor, nn

# Blocks of channels are 8 wide with AVX2, 16 with AVX-512.
_SAFE_CHANNELS = 16


def subsample_before_pointwise(network: nn.Module) -> int:
    """Have narrow strided 1 x 1 convolutions drop the pixels before, not within; in place. Returns how many.

    What they compute is the same: a 1 x 1 convolution of stride s reads every s-th pixel alone. Parameters and their
    names stay as they are.
    """
    count = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_narrow(module):
            down, across = module.stride
            module.register_forward_pre_hook(_Subsample(down, across))
            module.stride = (1, 1)
            count += 1
    return count


def _is_narrow(module: nn.Conv2d) -> bool:
    is_pointwise = module.kernel_size == (1, 1) and module.padding in ((0, 0), 0, "valid")
    return is_pointwise and module.stride != (1, 1) and module.in_channels // module.groups < _SAFE_CHANNELS


class _Subsample:
    """A hook that can be copied with its module."""

    def __init__(self, down: int, across: int) -> None:
        self.down, self.across = down, across

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x, *rest = inputs
        return (x[..., :: self.down, :: self.across], *rest)
