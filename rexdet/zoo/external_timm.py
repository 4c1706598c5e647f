"""Networks that timm defines: classifiers, feature maps, published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from rexdet.errors import UserError
from rexdet.weights import cache
from rexdet.weights.formats import read_file
from rexdet.weights.pixels import Preprocessing
from rexdet.zoo.names import Name, near
from rexdet.zoo.optional import STRIDES, import_optional
from rexdet.zoo.rule import with_rule


def timm_model(name: Name, weights: Path | None, options: dict[str, Any]) -> nn.Module:
    timm = import_optional("timm", "timm")
    if not timm.is_model(name.base):
        close = near(name.base.partition(".")[0], timm.list_models())
        raise UserError(
            f"timm has no network {name.base!r}", fix=f"did you mean {', '.join(f'timm:{n}' for n in close)}?"
        )
    if weights is not None:
        # timm opens the file again; ours looks first, so that no foreign pickle gets that far.
        read_file(weights)
        options = {**options, "pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    try:
        model: nn.Module = timm.create_model(name.base, **{"pretrained": False, **options})
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UserError(" ".join(str(error).split())[:300], where=str(name)) from error
    return model


def timm_body(
    name: Name, wanted: list[str], weights: Path | None, overrides: dict[str, Any]
) -> tuple[nn.Module, list[str]]:
    shape = timm_model(name, None, {**overrides, "features_only": True})
    reductions = list(shape.feature_info.reduction())  # type: ignore[union-attr, operator]
    missing = [feature for feature in wanted if reductions.count(STRIDES[feature]) == 0]
    if missing:
        strides = ", ".join(map(str, sorted(set(reductions))))
        raise UserError(f"has no map for {', '.join(missing)} (its maps have strides {strides})", where=str(name))
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(STRIDES[feature]) for feature in wanted)
    if weights is not None:
        # The whole classifier takes the file strictly; its features alone would be filled without a complaint.
        timm_model(name, weights, dict(overrides))
    body = timm_model(name, weights, {**overrides, "features_only": True, "out_indices": indices})
    return with_rule(body, name.rule, str(name)), []


def fetch_timm(name: Name) -> tuple[Path, Preprocessing]:
    timm_models = import_optional("timm.models", "timm")
    full = f"{name.base}.{name.tag}"
    try:
        config = timm_models.get_pretrained_cfg(full, allow_unregistered=False)
    except RuntimeError:
        config = None
    hub = config.hf_hub_id if config is not None and config.has_weights else None
    if config is None or hub is None:
        tags = [entry.partition(".")[2] for entry in timm_models.list_pretrained(f"{name.base}.*")]
        published = ", ".join(f"timm:{name.base}@{tag}" for tag in tags) or "none"
        raise UserError(f"no published file for timm:{name.base}@{name.tag}", fix=f"published: {published}")
    repository = f"{hub}{full}" if hub.endswith("/") else hub
    remote = cache.RemoteFile(
        url=f"https://huggingface.co/{repository}/resolve/main/model.safetensors",
        name=f"timm.{full}.safetensors",
        title=str(name),
        page=f"https://huggingface.co/{repository}",
    )
    side = config.input_size[-1]
    pixels = Preprocessing(
        tuple(config.mean),
        tuple(config.std),
        resize=int(side / config.crop_pct),
        crop=side,
        interpolation=config.interpolation,
    )
    return cache.fetch(remote), pixels
