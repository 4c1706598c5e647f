"""Networks that timm and torchvision define, under `timm:NAME` and `torchvision:NAME`.

Both packages are optional and imported when such a name is used. A name alone never loads anything; with a tag
(`timm:resnet50@a1_in1k`, `torchvision:resnet50@IMAGENET1K_V2`) the package's file comes through our cache.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.nets.features import LAST_STAGE, PYRAMID, STEM_STAGE, Feature
from rexdet.nets.layers import freeze_norms
from rexdet.optional import import_optional
from rexdet.weights.checkpoint import Checkpoint
from rexdet.zoo.external_load import IDENTITY, fill_external
from rexdet.zoo.external_network import ExternalNetwork
from rexdet.zoo.external_timm import timm_body
from rexdet.zoo.external_torchvision import torchvision_body
from rexdet.zoo.names import Name
from rexdet.zoo.optional import PROBE_SIDE, STRIDES
from rexdet.zoo.rule import with_rule

_ANOTHER = "choose another network"
BackboneT = TypeVar("BackboneT", bound="ExternalBackbone")


class ExternalBackbone(nn.Module):
    """Feature maps of another package's network: (B, 3, H, W) -> {"res2": (B, C2, H/4, W/4), ...}.

    body: gives the maps of `features`, in that order, as a list or a dictionary. out_features: the order of the output.
    stages: the modules of each stage (1 the stem, 2 to 5 up to res2 to res5). freeze_at: how many of the stages have no
    gradient and stay in evaluation mode, so that their norms' statistics are constant.
    """

    norm_kind = "BN"  # "BN", "FrozenBN" or "SyncBN": what its batch norms are

    def __init__(
        self,
        body: nn.Module,
        features: Mapping[str, Feature],
        out_features: Sequence[str],
        stages: Mapping[int, Sequence[nn.Module]] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.body = body
        self.features = {name: features[name] for name in out_features}
        self.out_features = tuple(out_features)
        self._names_of_maps = tuple(features)
        # Tuples, like the one below, keep nn.Module from registering modules a second time.
        self.stages_of_maps = {stage: tuple(modules) for stage, modules in (stages or {}).items()}
        # A tuple, so that modules which are registered below `body` are not registered twice.
        self._frozen = tuple(module for stage in range(1, freeze_at + 1) for module in (stages or {}).get(stage, ()))
        self.freeze_at = freeze_at
        for module in self._frozen:
            module.requires_grad_(False)
        self.train()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = self.body(x)
        values = maps.values() if isinstance(maps, Mapping) else maps
        named = dict(zip(self._names_of_maps, values, strict=True))
        return {name: named[name] for name in self.out_features}

    def __deepcopy__(self, memo: dict[int, Any]) -> ExternalBackbone:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        # torchvision's extractor comes out of a copy in training mode, its frozen parts, too.
        copied.body.train(self.body.training)
        modes = {path: module.training for path, module in self.named_modules()}
        for path, module in copied.named_modules():
            module.training = modes[path]
        return copied

    def train(self, mode: bool = True) -> ExternalBackbone:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def create_external_model(
    name: Name, num_classes: int | None, checkpoint: Checkpoint | None, overrides: dict[str, Any]
) -> nn.Module:
    """A classifier of another package. Another class count than the checkpoint's gives a new classifier."""
    network = ExternalNetwork(name, overrides)
    if num_classes is None and checkpoint is not None:
        num_classes = checkpoint.shape.classes
    model = with_rule(network.build(num_classes), name.rule, str(name))
    setattr(model, IDENTITY, network)
    if checkpoint is not None:
        fill_external(model, checkpoint)
    return model


def create_external_backbone(
    name: Name,
    out_features: Sequence[str],
    norm: str,
    freeze_at: int,
    checkpoint: Checkpoint | None,
    overrides: dict[str, Any],
    kind: type[BackboneT] = ExternalBackbone,  # type: ignore[assignment]
) -> BackboneT:
    """A backbone of another package, where it has maps of strides 4 to 32.

    kind: the class of the backbone. Raises UserError for a feature that it does not have, a norm that it cannot have,
    a freeze_at out of range, and weights that do not fit.
    """
    _check_request(name, out_features, norm, freeze_at)
    last = max(PYRAMID.index(feature) for feature in out_features)
    # Where a stage ends is told by its map, so freezing asks for those in between, too.
    wanted = [feature for feature in PYRAMID[: last + 1] if freeze_at > STEM_STAGE or feature in out_features]
    build = timm_body if name.package == "timm" else torchvision_body
    body, paths = build(name, wanted, overrides)
    body = _with_norm(body, norm, name.package)
    features, stages = _probe(body, wanted, paths, str(name))
    missing = [stage for stage in range(1, min(freeze_at, last + 2) + 1) if stage not in stages]
    if missing:
        raise UserError(
            f"cannot be frozen up to stage {freeze_at}: where stage {missing[0]} ends is not known",
            where=str(name),
            fix="freeze less",
        )
    backbone = kind(body, features, out_features, stages, freeze_at)
    backbone.norm_kind = norm
    setattr(backbone, IDENTITY, ExternalNetwork(name, overrides))
    if checkpoint is not None:
        fill_external(backbone, checkpoint)
    return backbone


def _check_request(name: Name, out_features: Sequence[str], norm: str, freeze_at: int) -> None:
    is_list = isinstance(out_features, Sequence) and not isinstance(out_features, str)
    names = list(out_features) if is_list else []
    if not names or any(feature not in PYRAMID for feature in names) or len(set(names)) < len(names):
        raise UserError(
            f"out_features is {out_features!r}", where=str(name), fix=f"a list of {', '.join(PYRAMID)}, each once"
        )
    if norm not in ("BN", "FrozenBN", "SyncBN"):
        raise UserError(
            f"another package's network cannot have norm {norm!r}", where=str(name), fix="BN, FrozenBN, SyncBN"
        )
    if not isinstance(freeze_at, int) or freeze_at not in range(LAST_STAGE + 1):
        raise UserError(f"freeze_at is {freeze_at!r}", where=str(name), fix=f"it counts stages, from 0 to {LAST_STAGE}")


def _with_norm(body: nn.Module, norm: str, package: str) -> nn.Module:
    """The body with its batch norms as they are, frozen, or synchronised. timm's may have their activation inside; its
    own functions keep it.
    """
    if norm == "BN":
        return body
    changed: nn.Module
    if package == "timm":
        layers = import_optional("timm.layers", "timm")
        changed = (layers.freeze_batch_norm_2d if norm == "FrozenBN" else layers.convert_sync_batchnorm)(body)
    else:
        changed = freeze_norms(body) if norm == "FrozenBN" else nn.SyncBatchNorm.convert_sync_batchnorm(body)
    return changed


def _probe(
    body: nn.Module, wanted: list[str], paths: list[str], where: str
) -> tuple[dict[str, Feature], dict[int, list[nn.Module]]]:
    """What the maps are, and the innermost modules of each stage that can be told, by running the network once.

    Stage 1 is the first convolution and what runs up to the next; a later stage is what runs until its map is there:
    until the last module below its path, or, without `paths`, until a module has given that very tensor.
    Raises UserError, with `where`, for a network that cannot be run so and for maps of another form.
    """
    order: list[nn.Module] = []
    made: dict[int, int] = {}
    kept: list[Any] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if module._parameters or module._buffers or not module._modules:
            order.append(module)
        if isinstance(output, Tensor):
            kept.append(output)  # Kept alive, so that no other tensor gets its id.
            made[id(output)] = len(order)

    handles = [module.register_forward_hook(note) for module in body.modules() if module is not body]
    mode = body.training
    try:
        with torch.no_grad():
            maps = body.eval()(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"takes no image of {PROBE_SIDE} x {PROBE_SIDE}: {reason}", where, _ANOTHER) from error
    finally:
        body.train(mode)
        for handle in handles:
            handle.remove()
    values = list(maps.values()) if isinstance(maps, Mapping) else list(maps)
    features = {
        feature: Feature(value.shape[1], PROBE_SIDE // value.shape[-1])
        for feature, value in zip(wanted, values, strict=True)
    }
    if any(feature.stride != STRIDES[name] for name, feature in features.items()):
        # Some transformers have channels last.
        raise UserError("its maps are not (B, C, H, W) at strides 4 to 32", where, _ANOTHER)
    names = {module: path for path, module in body.named_modules()}
    ends = [
        max((at + 1 for at, module in enumerate(order) if f"{names[module]}.".startswith(f"{path}.")), default=None)
        for path in paths
    ] or [made.get(id(value)) for value in values]
    return features, _stages(order, dict(zip(wanted, ends, strict=True)))


def _stages(order: list[nn.Module], ends: Mapping[str, int | None]) -> dict[int, list[nn.Module]]:
    before = next((at for at, module in enumerate(order) if at and isinstance(module, nn.Conv2d)), len(order))
    stages = {1: order[:before]}
    for stage, feature in enumerate(PYRAMID, start=2):
        end = ends.get(feature)
        if end is None:
            break
        stages[stage] = order[before:end]
        before = end
    return stages
