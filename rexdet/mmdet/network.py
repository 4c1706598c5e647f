"""The backbone of a config as a job's switches, or a trained detector's file, want it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet.backbone import draft_settings
from rexdet.mmdet.checkpoint import whole_detector
from rexdet.mmdet.fit import BACKBONE
from rexdet.mmdet.types import type_name
from rexdet.session.recipe import refuse_unknown_weights
from rexdet.zoo.names import without_tag

_PIXELS = ("mean", "std", "bgr_to_rgb")


def choose_network(cfg: Config, job: DetectionJob, said: list[str]) -> str:
    """Put --backbone, --weights and --pixels into the config, in place; gives the whole detector's file, or "".

    Raises UserError: weights that are none, or for a config whose backbone is another one.
    """
    refuse_unknown_weights(job.weights)
    detector = bool(job.weights) and whole_detector(job.weights)
    if job.weights:
        said.append(f"--weights {job.weights}: " + ("a whole detector" if detector else "a backbone or a classifier"))
    if job.backbone:
        _use_backbone(cfg, job.backbone)
    backbone = cfg.model.get("backbone", {})
    if (job.pixels or (job.weights and not detector)) and type_name(backbone) != BACKBONE:
        raise UserError(
            "weights or pixels of a backbone for a config whose backbone is not one of ours",
            where=job.weights or job.pixels,
            fix="say which network they are for with --backbone",
        )
    if job.pixels:
        backbone.pixels = job.pixels
    if job.weights and not detector:
        backbone.name = without_tag(backbone.name)
        backbone.init_cfg = ConfigDict(type="Pretrained", checkpoint=job.weights)
    if (job.pixels or job.backbone or (job.weights and not detector)) and "data_preprocessor" in cfg.model:
        # They follow the network; what the config had was for another one.
        cfg.model.data_preprocessor.update(dict.fromkeys(_PIXELS))
    return job.weights if detector else ""


def _use_backbone(cfg: Config, name: str) -> None:
    """The network `name` as the config's backbone: random weights, or those that its @tag names."""
    backbone = cfg.model.get("backbone")
    if backbone is None:
        raise UserError("the config's model has no backbone to be exchanged", where="--backbone")
    if type_name(backbone) == BACKBONE:
        backbone.pop("init_cfg", None)
        backbone.name = name
    else:
        kept = {key: backbone[key] for key in ("out_indices", "frozen_stages") if key in backbone}
        cfg.model.backbone = ConfigDict(type=BACKBONE, name=name, **kept)
    neck = cfg.model.get("neck")
    parts: list[Any] = [neck] if isinstance(neck, Mapping) else list(neck or [])[:1]
    for part in parts:
        typed = part.get("in_channels")
        part["in_channels"] = None
        if isinstance(typed, tuple | list) and type_name(part) == "SSDNeck":
            _forget_channels(cfg, part, len(typed))


def _forget_channels(cfg: Config, neck: Any, count: int) -> None:
    """SSDLite's neck hands the backbone's maps on, and its head reads them too: their widths follow the network."""
    for part, key in ((neck, "out_channels"), (cfg.model.bbox_head, "in_channels")):
        part[key] = (*[None] * count, *part[key][count:])


def is_random(cfg: Config) -> bool:
    """Whether the backbone is one of ours and starts from random weights."""
    backbone = cfg.model.get("backbone", {})
    return type_name(backbone) == BACKBONE and not draft_settings(backbone).source


def start_from_nothing(cfg: Config, typed: set[str], said: list[str]) -> None:
    """On random weights nothing is frozen and norms learn their statistics, unless somebody typed otherwise."""
    backbone = cfg.model.backbone
    for key, value in (("frozen_stages", -1), ("norm_eval", False)):
        before = backbone.get(key)
        if before in (None, value) or f"model.backbone.{key}" in typed:
            continue
        backbone[key] = value
        said.append(f"{backbone.name} starts from random weights, so model.backbone.{key} {before} counts as {value}")


def restore_network(cfg: Config, identity: Mapping[str, Any]) -> None:
    """Make the config build its backbone as it was when a detector's checkpoint was written, ready to be filled.

    Its norms are the checkpoint's, and so are the pixels; where the backbone's own weights came from may be gone.
    """
    backbone = cfg.model.get("backbone", {})
    if type_name(backbone) != BACKBONE:
        return
    backbone.name = without_tag(str(backbone.name))
    backbone.pop("init_cfg", None)
    norm = dict(backbone.get("norm_cfg") or {})
    backbone.norm_cfg = ConfigDict({**norm, "type": identity["norm"]})
    backbone.norm_eval = bool(identity.get("norm_eval", backbone.get("norm_eval", False)))
    backbone.frozen_stages = int(identity["freeze_at"]) - 1
    backbone.filled_later = True
    if "stride_in" in identity:
        backbone.overrides = {**(backbone.get("overrides") or {}), "stride_in": identity["stride_in"]}
    pixels = identity["pixels"]
    turn = slice(None, None, -1) if pixels["order"] == "BGR" else slice(None)
    if "data_preprocessor" in cfg.model:
        cfg.model.data_preprocessor.update(
            mean=list(pixels["mean"][turn]), std=list(pixels["std"][turn]), bgr_to_rgb=pixels["order"] == "RGB"
        )
