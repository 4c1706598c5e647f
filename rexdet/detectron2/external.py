"""Networks of timm and torchvision as detectron2 backbones."""

from __future__ import annotations

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone

from rexdet.detectron2.config import BackboneSettings
from rexdet.errors import UserError
from rexdet.weights import Checkpoint
from rexdet.zoo.external import ExternalBackbone, create_external_backbone
from rexdet.zoo.names import parse


class RexDetExternalBackbone(ExternalBackbone, Backbone):
    """A network of another package as a detectron2 backbone.

    (B, 3, H, W) -> {"res2": (B, C2, ceil(H/4), ceil(W/4)), ...}. Its tensors stand under `body.`, as the package's
    feature extractor names them. Arguments as in rexdet.zoo.external.ExternalBackbone.
    """

    # Where the weights were loaded from, without its tensors; None for random ones.
    provenance: Checkpoint | None = None

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map, in the order of `out_features`."""
        return {
            name: ShapeSpec(channels=feature.channels, stride=feature.stride) for name, feature in self.features.items()
        }


def is_external(settings: BackboneSettings) -> bool:
    """Whether `settings` name a network of another package."""
    return bool(parse(settings.name).package)


def make_external_backbone(
    settings: BackboneSettings, out_features: tuple[str, ...], *, norm: str, freeze_at: int, in_channels: int = 3
) -> RexDetExternalBackbone:
    """A backbone of another package with random weights.

    Raises UserError for a network that does not exist or has no such maps, and for what only rexdet's own networks
    can: GN, activation checkpointing, a drop path rate by its own key, another number of input channels.
    """
    refused = {
        "ACT_CHECKPOINT": (settings.activation_checkpointing, "set it to False"),
        "DROP_PATH": (
            settings.drop_path > 0.0,
            'write the package\'s own argument into OVERRIDES, in timm [["drop_path_rate", 0.1]]',
        ),
    }
    for key, (is_set, fix) in refused.items():
        if is_set:
            raise UserError(f"is for rexdet's own networks, and {settings.network} is none", f"MODEL.REXDET.{key}", fix)
    if in_channels != 3:
        raise UserError(f"a network of another package takes 3 channels, not {in_channels}", settings.network)
    if "weights" in settings.overrides or "pretrained" in settings.overrides:
        raise UserError("weights do not belong here", "MODEL.REXDET.OVERRIDES", "set MODEL.REXDET.WEIGHTS")
    name = parse(settings.network)
    return create_external_backbone(
        name, out_features, norm, freeze_at, None, dict(settings.overrides), RexDetExternalBackbone
    )
