"""Networks that timm defines: classifiers, feature maps, published files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from rexdet.errors import UserError
from rexdet.optional import import_optional
from rexdet.weights import cache
from rexdet.weights.pixels import IMAGENET, Preprocessing, read_pixels
from rexdet.zoo.external_published import PublishedByPackage, matches_hash_in
from rexdet.zoo.names import Name, near
from rexdet.zoo.optional import CONSTRUCTION_ERRORS, STRIDES, check_options, in_one_line
from rexdet.zoo.rule import with_rule


def timm_model(name: Name, options: dict[str, Any]) -> nn.Module:
    """A classifier of timm with random weights. Raises UserError for a name or an option that timm does not have."""
    timm = import_optional("timm", "timm")
    if not timm.is_model(name.base):
        close = ", ".join(f"timm:{one}" for one in near(name.base.partition(".")[0], timm.list_models()))
        raise UserError(
            f"timm has no network {name.base!r}",
            fix=f"did you mean {close}?" if close else "timm.list_models() lists them",
        )
    check_options(options, str(name))
    try:
        model: nn.Module = timm.create_model(name.base, **{"pretrained": False, **options})
    except CONSTRUCTION_ERRORS as error:
        raise UserError(in_one_line(error), where=str(name)) from error
    return model


def timm_body(name: Name, wanted: list[str], overrides: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    """timm's own extractor of the wanted feature maps, with random weights."""
    shape = timm_model(name, {**overrides, "features_only": True})
    reductions = list(shape.feature_info.reduction())  # type: ignore[union-attr, operator]
    missing = [feature for feature in wanted if reductions.count(STRIDES[feature]) == 0]
    if missing:
        strides = ", ".join(map(str, sorted(set(reductions))))
        raise UserError(f"has no map for {', '.join(missing)} (its maps have strides {strides})", where=str(name))
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(STRIDES[feature]) for feature in wanted)
    body = timm_model(name, {**overrides, "features_only": True, "out_indices": indices})
    _end_before_widening(body)
    return with_rule(body, name.rule, str(name)), []


def _end_before_widening(body: nn.Module) -> None:
    """Take the last map from the last block: MobileNetV3 and V4 have a stage that only widens it for the classifier.

    In timm that stage is one 1x1 convolution (160 -> 960 in MobileNetV3), and its output would be the last map.
    """
    stages, outputs = getattr(body, "blocks", None), getattr(body, "_stage_out_idx", None)
    if not isinstance(stages, nn.Sequential) or not isinstance(outputs, dict) or len(stages) not in outputs:
        return
    convolutions = [module for module in stages[-1].modules() if isinstance(module, nn.Conv2d)]
    is_widening = all(
        module.kernel_size == (1, 1) and module.stride == (1, 1) and module.out_channels > module.in_channels
        for module in convolutions
    )
    if convolutions and is_widening and len(stages) - 1 not in outputs:
        outputs[len(stages) - 1] = outputs.pop(len(stages))
        del stages[-1]


def timm_published(name: Name) -> PublishedByPackage:
    """What timm says about one of its published files. Raises UserError where it has no file of that tag."""
    timm_models = import_optional("timm.models", "timm")
    full = f"{name.base}.{name.tag}"
    try:
        config = timm_models.get_pretrained_cfg(full, allow_unregistered=False)
    except RuntimeError:
        config = None
    hub = config.hf_hub_id if config is not None and config.has_weights else None
    if config is None or hub is None:
        published = ", ".join(f"timm:{name.base}@{tag}" for tag in timm_tags(name)) or "none"
        raise UserError(f"no published file for timm:{name.base}@{name.tag}", fix=f"published: {published}")
    repository = f"{hub}{full}" if hub.endswith("/") else hub
    remote = cache.RemoteFile(
        url=f"https://huggingface.co/{repository}/resolve/main/model.safetensors",
        name=f"timm.{full}.safetensors",
        title=str(name),
        page=f"https://huggingface.co/{repository}",
    )
    return PublishedByPackage(str(name), remote, pixels_of_config(config.to_dict()), config.license)


def timm_by_hash(name: Name, sha256: str) -> PublishedByPackage | None:
    """The published file of that network whose name at its publisher's carries the beginning of this hash."""
    timm_models = import_optional("timm.models", "timm")
    for tag in timm_tags(name):
        config = timm_models.get_pretrained_cfg(f"{name.base}.{tag}", allow_unregistered=False)
        if matches_hash_in(config.url or "", sha256):
            return timm_published(Name(name.base, tag, name.package))
    return None


def timm_usual_pixels(name: Name) -> Preprocessing:
    """What timm's files of that network usually take."""
    config = import_optional("timm.models", "timm").get_pretrained_cfg(name.base)
    return pixels_of_config(config.to_dict()) if config is not None else IMAGENET


def pixels_of_config(config: Mapping[str, Any]) -> Preprocessing:
    """The pixels of a pretrained configuration, as timm keeps it and writes it into config.json beside a file.

    Raises KeyError, TypeError or ValueError where it is none.
    """
    side = int(config["input_size"][-1])
    mean, std = (tuple(float(number) for number in config[key]) for key in ("mean", "std"))
    return read_pixels(
        {
            "mean": list(mean),
            "std": list(std),
            "resize": int(side / float(config.get("crop_pct") or 1.0)),
            "crop": side,
            "interpolation": str(config.get("interpolation") or "bicubic"),
        },
        "timm's configuration",
    )


def timm_tags(name: Name) -> list[str]:
    """The tags of timm's published files of a network."""
    timm_models = import_optional("timm.models", "timm")
    return [entry.partition(".")[2] for entry in timm_models.list_pretrained(f"{name.base}.*")]
