"""Our networks as MMDetection backbones, under MMDetection's own argument names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit, update_init_info
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import rexdet
from rexdet.errors import UserError
from rexdet.mmdet.networks import (
    FROZEN_HELP,
    FROZEN_STAGES,
    BackboneSettings,
    checkpoint_that_tells,
    create_network,
    open_weights,
    read_settings,
)
from rexdet.nets.features import Feature
from rexdet.nets.layers import BatchNorm2d, SyncBatchNorm
from rexdet.weights import Checkpoint, LoadReport

logger = logging.getLogger("rexdet.mmdet")

_PRETRAINED_KEYS = ("type", "checkpoint", "prefix", "map_location")


@MODELS.register_module()
class RexDetBackbone(BaseModule):
    """A network of ours as an MMDetection backbone: (B, 3, H, W) -> a tuple of (B, C, ceil(H/s), ceil(W/s)).

    name: a network ("rexnet_1.0"), or one with its published checkpoint ("rexnet_1.0@nav_in1k").
    out_indices: stages whose last map is given, 0 (stride 4) to 3 (stride 32); all four by default.
    frozen_stages: -1 none, 0 the stem, 1 the stem and the first stage, up to 4; detectron2's FREEZE_AT less one.
        May be set at any time; what is frozen has no gradient, and neither parameters nor statistics move.
    norm_cfg: dict(type="BN" | "SyncBN" | "GN" | "FrozenBN", requires_grad=..., eps=..., momentum=...). None: FrozenBN
        with weights, BN without, as in every engine.
    norm_eval: batch norms use, and keep, their statistics while training. None: True with weights, False without.
    with_cp: recompute activations in the backward pass. drop_path_rate: of the last block.
    init_cfg: dict(type="Pretrained", checkpoint=...), a file in any published layout or a name@tag; it is opened as
        `rexdet.load_weights` does, and a load that leaves a tensor unfilled is an error.
    out_features: feature maps by name instead of `out_indices` ("expand5", "penultimate": SSDLite's).
    pixels: what the weights were trained with, where the file does not say. overrides: arguments of the network.
    filled_later: a whole detector's file (load_from) brings the weights; norms may then be frozen without any here.

    Weights are loaded by `init_weights`, as in every MMDetection model. State keys are those of the network itself.
    Raises UserError for what cannot be, in one line.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_cfg: Mapping[str, Any] | None = None,
        norm_eval: bool | None = None,
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: Any = None,
        *,
        out_features: Sequence[str] | None = None,
        pixels: Any = "",
        overrides: Mapping[str, Any] | None = None,
        filled_later: bool = False,
    ) -> None:
        checkpoint, other_cfgs = split_init_cfg(init_cfg)
        super().__init__(other_cfgs)
        self.settings = read_settings(
            name,
            out_indices=out_indices,
            out_features=out_features,
            frozen_stages=frozen_stages,
            norm_cfg=norm_cfg,
            with_cp=with_cp,
            drop_path_rate=drop_path_rate,
            checkpoint=checkpoint,
            pixels=pixels,
            overrides=overrides,
            filled_later=filled_later,
        )
        network = create_network(self.settings, checkpoint_that_tells(self.settings))
        # The network's modules are this module's own, under the same names, so that keys are those of the network. It
        # is kept outside of nn.Module's registration, sharing its table of modules: one set of modules, no prefix.
        self.__dict__["network"] = network
        self.__dict__["_modules"] = network._modules
        self.features: dict[str, Feature] = dict(network.features)  # type: ignore[arg-type]
        # Where the weights were loaded from, without its tensors; None for random ones.
        self.provenance: Checkpoint | None = None
        self.norm_eval = bool(self.settings.source) if norm_eval is None else bool(norm_eval)
        self._set_up_norms()
        self._held: list[nn.Parameter] = []
        self._frozen_stages = -1
        self.frozen_stages = frozen_stages
        self.train()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map of the output: what a neck has as `in_channels`."""
        return tuple(feature.channels for feature in self.features.values())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        network: nn.Module = self.__dict__["network"]
        return tuple(network(x).values())

    def train(self, mode: bool = True) -> RexDetBackbone:
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        self._hold()
        return self

    # -- freezing ---------------------------------------------------------------------------------------------------

    @property
    def frozen_stages(self) -> int:
        """How many stages do not learn, as MMDetection counts."""
        return self._frozen_stages

    @frozen_stages.setter
    def frozen_stages(self, value: int) -> None:
        if value not in FROZEN_STAGES:
            raise UserError(f"frozen_stages is {value!r}", "RexDetBackbone.frozen_stages", FROZEN_HELP)
        missing = [stage for stage in range(1, value + 2) if stage not in self._stages()]
        if missing and not self._ends_before(missing[0]):
            raise UserError(
                f"frozen_stages is {value}, but where stage {missing[0]} of {self.settings.name} ends is not known",
                fix="ask for more out_indices, or freeze less",
            )
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._held = []
        for module in self.modules():
            if isinstance(module, BatchNorm2d | SyncBatchNorm):
                module.is_held = False
        self._frozen_stages = value
        self.train(self.training)

    def _hold(self) -> None:
        """Take the frozen stages out of the training: no gradients (not even old ones), norms in evaluation mode."""
        for stage, modules in self._stages().items():
            if stage > self._frozen_stages + 1:
                continue
            for module in modules:
                module.eval()
                for part in module.modules():
                    if isinstance(part, BatchNorm2d | SyncBatchNorm):
                        # To the bit what detectron2's frozen norms give, and one walk over the map less.
                        part.is_held = True
                for parameter in module.parameters():
                    parameter.grad = None
                    if parameter.requires_grad:
                        parameter.requires_grad_(False)
                        self._held.append(parameter)

    def _stages(self) -> dict[int, list[nn.Module]]:
        """The modules of each stage: 1 the stem, 2 to 5 what ends in res2 to res5."""
        network: Any = self.__dict__["network"]
        if hasattr(network, "stages_of_maps"):
            return {stage: list(modules) for stage, modules in network.stages_of_maps.items()}
        found: dict[int, list[nn.Module]] = {}
        for step in network.steps:
            found.setdefault(step.stage, []).append(self.get_submodule(step.path))
        return found

    def _ends_before(self, stage: int) -> bool:
        """The backbone ends before that stage because no map behind it is asked for: then all of it is frozen."""
        return hasattr(self.__dict__["network"], "steps") and stage > max(self._stages())

    def _set_up_norms(self) -> None:
        numbers = self.settings.norm_numbers
        for module in self.modules():
            if isinstance(module, _BatchNorm | nn.GroupNorm):
                if "eps" in numbers:
                    module.eps = numbers["eps"]
                if "momentum" in numbers and isinstance(module, _BatchNorm):
                    module.momentum = numbers["momentum"]
                if not self.settings.norm_learns:
                    module.requires_grad_(False)

    # -- weights ----------------------------------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Load the weights that the config names; random ones are told aloud. Raises UserError for a short load."""
        was_loaded = self.is_init
        super().init_weights()
        if was_loaded:
            return
        if not self.settings.source:
            held = ", its norms with the statistics of a fresh network (norm_eval=True)" if self.norm_eval else ""
            held += f", some of them frozen (frozen_stages={self.frozen_stages})" if self.frozen_stages >= 0 else ""
            logger.warning(
                "%s starts from random weights%s, unless a whole detector's file is loaded; "
                'init_cfg=dict(type="Pretrained", checkpoint=...) or a @tag in name gives it trained ones',
                self.settings.name,
                held,
            )
            return
        report = self.load(open_weights(self.settings))
        if hasattr(self, "_params_init_info"):
            update_init_info(self, init_info=f"RexDetBackbone: {report.loaded} tensors from {report.source}")

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Fill the backbone from a checkpoint, strictly; returns what went where."""
        report = rexdet.load_weights(self.__dict__["network"], checkpoint)
        self.provenance = replace(checkpoint, tensors={})
        logger.info(
            "%s: %s of %s tensors from %s", self.settings.name, report.loaded, report.expected, checkpoint.source
        )
        return report


def split_init_cfg(init_cfg: Any) -> tuple[str, list[dict[str, Any]] | None]:
    """(the checkpoint that an init_cfg names, or ""; the other entries). Raises UserError for a wrong one."""
    if init_cfg is None:
        return "", None
    entries = [init_cfg] if isinstance(init_cfg, Mapping) else list(init_cfg)
    pretrained = [entry for entry in entries if entry.get("type") in ("Pretrained", PretrainedInit)]
    others = [dict(entry) for entry in entries if entry not in pretrained]
    if not pretrained:
        return "", others or None
    (first, *more) = pretrained
    checkpoint = first.get("checkpoint")
    unknown = [key for key in first if key not in _PRETRAINED_KEYS]
    if more or unknown or not isinstance(checkpoint, str) or not checkpoint:
        raise UserError(
            f"init_cfg is {init_cfg!r}",
            "RexDetBackbone.init_cfg",
            'write dict(type="Pretrained", checkpoint="FILE or name@tag")',
        )
    return checkpoint, others or None


def draft_settings(arguments: Mapping[str, Any]) -> BackboneSettings:
    """The settings that a backbone's part of a config gives, without building it. Raises UserError."""
    known = {key: value for key, value in arguments.items() if key not in ("type", "init_cfg", "norm_eval")}
    checkpoint, _ = split_init_cfg(arguments.get("init_cfg"))
    defaults: dict[str, Any] = {
        "out_indices": None,
        "out_features": None,
        "frozen_stages": -1,
        "norm_cfg": None,
        "with_cp": False,
        "drop_path_rate": 0.0,
        "pixels": "",
        "overrides": None,
        "filled_later": False,
    }
    unknown = [key for key in known if key not in ("name", *defaults)]
    if unknown or "name" not in known:
        what = f"there is no argument {unknown[0]!r}" if unknown else "names no network"
        raise UserError(what, "RexDetBackbone", f"its arguments are name, {', '.join(defaults)}, norm_eval, init_cfg")
    return read_settings(**{**defaults, **known}, checkpoint=checkpoint)
