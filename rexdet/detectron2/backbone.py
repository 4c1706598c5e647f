"""Our networks as detectron2 backbones, and the three builders that configs name in MODEL.BACKBONE.NAME."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from rexdet import nets
from rexdet.detectron2.config import FPN_BUILDER, PLAIN_BUILDER, RETINANET_BUILDER, BackboneSettings, read_settings
from rexdet.detectron2.external import RexDetExternalBackbone, is_external, make_external_backbone
from rexdet.detectron2.levels import (
    check_heads,
    describes_a_detector,
    neck_features,
    refuse_rebuilt_stages,
    wanted_features,
)
from rexdet.detectron2.networks import checkpoint_that_tells, create_network
from rexdet.detectron2.pixels import pixels_of_config
from rexdet.detectron2.start import choose_freezing, choose_norm, find_start, load_start, open_start
from rexdet.errors import UserError
from rexdet.weights import Checkpoint
from rexdet.zoo.external_network import on_meta


class RexDetBackbone(nets.Backbone, Backbone):
    """A network of ours as a detectron2 backbone.

    (B, 3, H, W) -> {"res2": (B, C2, ceil(H/4), ceil(W/4)), ...} for any H and W. Parameters keep the names that they
    have in the network. Arguments as in rexdet.nets.Backbone.
    """

    # Where the weights were loaded from, without its tensors; None for random ones.
    provenance: Checkpoint | None = None

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map, in the order of `out_features`."""
        return {
            name: ShapeSpec(channels=feature.channels, stride=feature.stride) for name, feature in self.features.items()
        }


# A network of ours, or one of timm's and torchvision's.
AnyBackbone = RexDetBackbone | RexDetExternalBackbone


def make_backbone(
    settings: BackboneSettings,
    out_features: tuple[str, ...],
    *,
    norm: str,
    freeze_at: int,
    in_channels: int = 3,
    weights: Checkpoint | None = None,
) -> AnyBackbone:
    """A backbone with random weights, built so that those it starts from will fit.

    weights: what `checkpoint_that_tells` gives.
    Raises UserError for an unknown network, argument or feature, and a freeze_at outside 0 to 5.
    """
    if is_external(settings):
        return make_external_backbone(settings, out_features, norm=norm, freeze_at=freeze_at, in_channels=in_channels)
    return _backbone(settings, out_features, norm, freeze_at, in_channels, weights)


def _backbone(
    settings: BackboneSettings,
    out_features: tuple[str, ...],
    norm: str,
    freeze_at: int,
    in_channels: int,
    weights: Checkpoint | None,
) -> RexDetBackbone:
    network = create_network(settings, norm=norm, in_channels=in_channels, weights=weights)
    try:
        return RexDetBackbone(
            network,
            out_features,
            freeze_at=freeze_at,
            activation_checkpointing=settings.activation_checkpointing,
        )
    except ValueError as error:
        raise UserError(str(error), f"the backbone {settings.network}") from error


def draft_backbone(
    settings: BackboneSettings, out_features: tuple[str, ...], norm: str = "BN", detector: str = ""
) -> AnyBackbone:
    """The backbone without memory for its tensors: tells whether it can be built, and its maps and shapes. Raises as
    `make_backbone` does.
    """
    if is_external(settings):
        return on_meta(lambda: make_external_backbone(settings, out_features, norm=norm, freeze_at=0))
    weights = checkpoint_that_tells(settings, detector)
    with torch.device("meta"):
        return _backbone(settings, out_features, norm, 0, 3, weights)


def build_rexdet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> AnyBackbone:
    """The backbone that MODEL.REXDET describes, its weights loaded, without a neck.

    Raises UserError for whatever cannot work as it is written; the message names the key and what to write.
    """
    return _build(cfg, input_shape)


def build_rexdet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """That backbone under a feature pyramid with one level pooled on top (p6): for R-CNN detectors.

    Source of the pyramid: Lin et al., arXiv 1612.03144, as detectron2 builds it. Neck widths follow the network.
    """
    bottom_up = _build(cfg, input_shape)
    names = neck_features(cfg, bottom_up.features)
    top = LastLevelMaxPool()
    # detectron2 says p5 here; the last level has another number where the pyramid ends earlier.
    top.in_feature = f"p{_level(bottom_up, names[-1])}"
    return _pyramid(cfg, bottom_up, names, top)


def build_retinanet_rexdet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """That backbone under a feature pyramid with two levels convolved from its last map (p6, p7): for RetinaNet.

    Source of the two levels: Lin et al., arXiv 1708.02002, Sec. 4, as detectron2 builds them.
    """
    bottom_up = _build(cfg, input_shape)
    names = neck_features(cfg, bottom_up.features)
    top = LastLevelP6P7(bottom_up.features[names[-1]].channels, cfg.MODEL.FPN.OUT_CHANNELS, in_feature=names[-1])
    return _pyramid(cfg, bottom_up, names, top)


def register_builders() -> None:
    """Put the three builders into detectron2's registry; harmless twice."""
    for name, builder in (
        (PLAIN_BUILDER, build_rexdet_backbone),
        (FPN_BUILDER, build_rexdet_fpn_backbone),
        (RETINANET_BUILDER, build_retinanet_rexdet_fpn_backbone),
    ):
        if name not in BACKBONE_REGISTRY:
            BACKBONE_REGISTRY._do_register(name, builder)


def _build(cfg: CfgNode, input_shape: ShapeSpec) -> AnyBackbone:
    settings = read_settings(cfg)
    start = find_start(cfg.MODEL.WEIGHTS, settings)
    weights = checkpoint_that_tells(settings, cfg.MODEL.WEIGHTS)
    backbone = make_backbone(
        settings,
        wanted_features(cfg, settings),
        norm=choose_norm(settings, start),
        freeze_at=choose_freezing(cfg.MODEL.BACKBONE.FREEZE_AT, settings, start),
        in_channels=input_shape.channels,
        weights=weights,
    )
    if describes_a_detector(cfg):
        refuse_rebuilt_stages(cfg)
        check_heads(cfg, backbone.features)
    # Opened already where the network was built after it.
    checkpoint = weights if weights is not None else open_start(start, settings, cfg.MODEL.WEIGHTS)
    if checkpoint is not None:
        load_start(backbone, checkpoint, start, pixels_of_config(cfg))
    return backbone


def _level(bottom_up: AnyBackbone, feature: str) -> int:
    return bottom_up.features[feature].stride.bit_length() - 1


def _pyramid(cfg: CfgNode, bottom_up: AnyBackbone, names: list[str], top: nn.Module) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=names,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
