"""Feature maps and pyramid levels: what the backbone gives, and what the config's heads ask for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from detectron2.config import CfgNode, get_cfg

from rexdet.detectron2.config import FPN_BUILDER, RETINANET_BUILDER, BackboneSettings
from rexdet.errors import UserError
from rexdet.nets.features import PYRAMID, Feature

EXTRA_LEVELS = {FPN_BUILDER: 1, RETINANET_BUILDER: 2}


def wanted_features(cfg: CfgNode, settings: BackboneSettings) -> tuple[str, ...]:
    """The feature maps that the backbone gives: MODEL.REXDET.OUT_FEATURES, else what MODEL.FPN.IN_FEATURES names, else
    all four. MODEL.RESNETS is never read.
    """
    return settings.out_features or tuple(cfg.MODEL.FPN.IN_FEATURES) or PYRAMID


def neck_features(cfg: CfgNode, features: Mapping[str, Feature]) -> list[str]:
    """The feature maps that the FPN reads, from the largest map to the smallest.

    They are those of MODEL.FPN.IN_FEATURES that the backbone gives (all that it gives where the key is empty), in any
    order. Raises UserError where one is asked for that is not given, and where the strides have gaps.
    """
    asked = tuple(cfg.MODEL.FPN.IN_FEATURES) or tuple(features)
    missing = [name for name in asked if name not in features]
    if missing:
        raise UserError(
            f"MODEL.FPN.IN_FEATURES asks for {', '.join(missing)}, but the backbone gives {describe(features)}",
            fix="name the same feature maps in MODEL.REXDET.OUT_FEATURES and MODEL.FPN.IN_FEATURES",
        )
    names = sorted(asked, key=lambda name: features[name].stride)
    for larger, smaller in itertools.pairwise(names):
        if features[smaller].stride != 2 * features[larger].stride:
            chosen = cfg.MODEL.get("REXDET", {}).get("OUT_FEATURES")
            raise UserError(
                f"a feature pyramid needs maps whose strides double, but it would read "
                f"{describe({name: features[name] for name in names})}",
                "MODEL.REXDET.OUT_FEATURES" if chosen else "MODEL.FPN.IN_FEATURES",
                "name neighbouring feature maps, such as [res3, res4, res5]",
            )
    return names


def levels_of(cfg: CfgNode, features: Mapping[str, Feature]) -> dict[str, int]:
    """Name and stride of each map that the heads can read: the pyramid's levels, or the backbone's own maps.

    A feature map that the FPN asks for and does not get is left out, so that the levels can be told beside what the
    heads ask for; `neck_features` is what refuses it.
    """
    builder = cfg.MODEL.BACKBONE.NAME
    if builder not in EXTRA_LEVELS:
        return {name: feature.stride for name, feature in features.items()}
    asked = tuple(cfg.MODEL.FPN.IN_FEATURES) or tuple(features)
    strides = sorted(features[name].stride for name in asked if name in features)
    last = strides[-1] if strides else 1
    strides += [last * 2 ** (extra + 1) for extra in range(EXTRA_LEVELS[builder])]
    return {f"p{int(math.log2(stride))}": stride for stride in strides}


def describe(features: Mapping[str, Feature] | Mapping[str, int]) -> str:
    """Names and strides in one phrase: "res3 (stride 8), res4 (16)"."""
    strides = {name: value.stride if isinstance(value, Feature) else value for name, value in features.items()}
    phrases = [f"{name} ({stride})" for name, stride in strides.items()]
    return ", ".join(phrases).replace("(", "(stride ", 1)


def describes_a_detector(cfg: CfgNode) -> bool:
    """Whether the config says what stands on the backbone.

    detectron2's own defaults are those of a C4 model. Whoever asks for a backbone alone leaves them as they are and
    names no data, so there is nothing to check the backbone against.
    """
    defaults = get_cfg()
    keys = ("META_ARCHITECTURE", "RPN", "ROI_HEADS", "ANCHOR_GENERATOR", "RETINANET")
    touched = any(cfg.MODEL[key] != defaults.MODEL[key] for key in keys)
    return touched or bool(cfg.DATASETS.TRAIN) or bool(cfg.DATASETS.TEST)


def refuse_rebuilt_stages(cfg: CfgNode) -> None:
    """Raise UserError for the C4 and DC5 kinds of config, which build a stage of a ResNet again in their heads."""
    heads, dilation = cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.RESNETS.RES5_DILATION
    what = ""
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and heads == "Res5ROIHeads":
        what = "this is a C4 config (MODEL.ROI_HEADS.NAME is Res5ROIHeads): its heads are the last stage of a ResNet"
    elif dilation != 1:
        what = (
            f"this is a DC5 config (MODEL.RESNETS.RES5_DILATION is {dilation}): it dilates the last stage of a ResNet"
        )
    if what:
        raise UserError(f"{what}, so no other network fits it", fix="take an FPN config, as Base-RCNN-FPN.yaml is")


def check_heads(cfg: CfgNode, features: Mapping[str, Feature]) -> None:
    """Raise UserError where heads ask for levels that the backbone and its neck do not give, or where anchor sizes and
    levels do not pair up: the message tells the levels found (names, strides) against the sizes given.
    """
    levels = levels_of(cfg, features)
    for key, asked, has_anchors in _readers(cfg):
        missing = [name for name in asked if name not in levels]
        problems = [f"{key} asks for {', '.join(missing)}"] if missing else []
        fixes = [f"set {key} to levels that there are"] if missing else []
        if has_anchors:
            for anchors in ("SIZES", "ASPECT_RATIOS"):
                key_of_anchors = f"MODEL.ANCHOR_GENERATOR.{anchors}"
                given = cfg.MODEL.ANCHOR_GENERATOR[anchors]
                count = len(given) if given and isinstance(given[0], Sequence) else 1
                usable = len(asked) - len(missing)
                if count not in (1, usable):
                    problems.append(f"{key_of_anchors} has {count} entries ({given}) for {usable} levels")
                    fixes.append(f"give {key_of_anchors} one entry for each level, or a single one for all")
        if problems:
            raise UserError(
                f"the backbone and its neck give {describe(levels)}, but {' and '.join(problems)}",
                fix=" and ".join(fixes),
            )


def _readers(cfg: CfgNode) -> list[tuple[str, tuple[str, ...], bool]]:
    """(key, levels asked for, whether anchors stand on them) of every part of the config that reads levels."""
    model = cfg.MODEL
    kind = model.META_ARCHITECTURE
    readers = []
    if kind == "RetinaNet":
        readers.append(("MODEL.RETINANET.IN_FEATURES", model.RETINANET.IN_FEATURES, True))
    if kind in ("GeneralizedRCNN", "ProposalNetwork", "PanopticFPN"):
        if model.PROPOSAL_GENERATOR.NAME in ("RPN", "RRPN"):
            readers.append(("MODEL.RPN.IN_FEATURES", model.RPN.IN_FEATURES, True))
        if kind != "ProposalNetwork":
            readers.append(("MODEL.ROI_HEADS.IN_FEATURES", model.ROI_HEADS.IN_FEATURES, False))
    if kind in ("PanopticFPN", "SemanticSegmentor"):
        readers.append(("MODEL.SEM_SEG_HEAD.IN_FEATURES", model.SEM_SEG_HEAD.IN_FEATURES, False))
    return [(key, tuple(names), anchors) for key, names, anchors in readers]
