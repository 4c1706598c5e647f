"""What an SSDLite detector over a network of ours costs, counted as the ReXNet paper's Table 6 is.

The counting rule, found by trying which one gives every printed number (arXiv 2007.00992v3, Table 6): the first map is
the expansion inside the first block of stride 32, still at stride 16, the second the last convolution; four extra
blocks write 512, 256, 256 and 128 channels; 3 anchors on the first map, 6 on the others; 81 classes, the background
among them; the scale and shift of every batch norm counts; multiply-accumulates of convolutions at 320 x 320. Head and
extra blocks are torchvision's (Sandler et al., arXiv 1801.04381, Sec. 6.2).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets.complexity import count
from rexdet.nets.features import Backbone
from rexdet.zoo.costs import DetectorCost, maps_of, network_skeleton, printed_of

TAPS = ("expand5", "penultimate")
EXTRA_CHANNELS = (512, 256, 256, 128)
ANCHORS = (3, 6, 6, 6, 6, 6)
CLASSES = 81
SIZE = 320
RULE = (
    f"SSDLite at {SIZE} x {SIZE}: maps {TAPS[0]} and {TAPS[1]}, extra blocks of "
    f"{', '.join(map(str, EXTRA_CHANNELS))} channels, {ANCHORS[0]} anchors on the first map and {ANCHORS[1]} on the "
    f"others, {CLASSES} classes with background, norms counted, multiply-accumulates of convolutions"
)


class SSDLite(nn.Module):
    """A backbone with two maps, extra blocks behind the second, and torchvision's SSDLite head: for counting.

    (B, 3, H, W) -> the head's raw outputs for every map.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        # torchvision has no public name for the extra block; the head is public.
        from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block

        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        taps = [backbone.features[name].channels for name in backbone.out_features]
        before = [taps[-1], *EXTRA_CHANNELS[:-1]]
        self.backbone = backbone
        self.extra = nn.ModuleList(
            _extra_block(channels, out, norm) for channels, out in zip(before, EXTRA_CHANNELS, strict=True)
        )
        self.head = SSDLiteHead([*taps, *EXTRA_CHANNELS], list(ANCHORS), CLASSES, norm)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = list(self.backbone(images).values())
        for block in self.extra:
            maps.append(block(maps[-1]))
        return self.head(maps)


def ssdlite_cost(name: str) -> DetectorCost:
    """The cost of SSDLite over a named network, by the rule above.

    Raises UserError for a network that does not have the two maps.
    """
    network: Any = network_skeleton(name)
    if not set(TAPS) <= set(maps_of(network)):
        raise UserError(f"{name} has no maps {' and '.join(TAPS)}, which SSDLite reads", fix="take a ReXNet")
    with torch.device("meta"):
        cost = count(SSDLite(Backbone(network, TAPS)), (1, 3, SIZE, SIZE))
    return DetectorCost(name, "ssdlite", cost.parameters, cost.macs, printed_of(name, "ssdlite"))


def has_ssdlite_maps(name: str) -> bool:
    """Whether a named network has the maps that SSDLite reads."""
    return set(TAPS) <= set(maps_of(network_skeleton(name)))
