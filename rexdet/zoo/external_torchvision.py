"""Networks that torchvision defines: classifiers, feature maps, published files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.weights import cache
from rexdet.weights.formats import read_file
from rexdet.weights.pixels import Preprocessing
from rexdet.zoo.names import Name, near
from rexdet.zoo.optional import PROBE_SIDE, STRIDES, import_optional
from rexdet.zoo.rule import with_rule


def torchvision_model(name: Name, weights: Path | None, options: dict[str, Any]) -> nn.Module:
    """A classifier of torchvision; random unless a file in its layout is given."""
    models = import_optional("torchvision.models", "torchvision")
    _check_name(models, name)
    try:
        model: nn.Module = models.get_model(name.base, weights=None, **options)
    except (TypeError, ValueError) as error:
        raise UserError(str(error), where=str(name)) from error
    if weights is not None:
        _fill(model, weights)
    return model


def _check_name(models: ModuleType, name: Name) -> None:
    names = models.list_models(module=models)
    if name.base not in names:
        close = near(name.base, names)
        raise UserError(
            f"torchvision has no classifier {name.base!r}",
            fix=f"did you mean {', '.join(f'torchvision:{one}' for one in close)}?",
        )


def _fill(model: nn.Module, weights: Path) -> None:
    state = read_file(weights).value
    own = model.state_dict()
    if not isinstance(state, Mapping) or not state.keys() & own.keys():
        raise UserError("is not a state dict of this network in torchvision's layout", where=str(weights))
    differing = [key for key in own if key in state and state[key].shape != own[key].shape]
    heads = [key for key in differing if key.startswith(("fc.", "classifier.", "heads.", "head."))]
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    if missing or unexpected or len(differing) > len(heads):
        wrong = (missing or unexpected or differing)[0]
        raise UserError(f"does not fit: {wrong} is missing, unexpected or of another shape", where=str(weights))
    with torch.no_grad():
        for key in own.keys() & state.keys() - set(heads):
            own[key].copy_(state[key])


def torchvision_body(
    name: Name, wanted: list[str], weights: Path | None, overrides: dict[str, Any]
) -> tuple[nn.Module, list[str]]:
    extraction = import_optional("torchvision.models.feature_extraction", "torchvision")
    # Before the maps are taken: there one forward calls everything, and blocks are no longer told apart.
    model = with_rule(torchvision_model(name, weights, overrides), name.rule, str(name))
    modules = _last_modules(model, name)
    missing = [feature for feature in wanted if STRIDES[feature] not in modules]
    if missing:
        raise UserError(f"has no map for {', '.join(missing)}", where=str(name), fix="choose another network")
    paths = [modules[STRIDES[feature]] for feature in wanted]
    body: nn.Module = extraction.create_feature_extractor(model.train(), dict(zip(paths, wanted, strict=True)))
    return body, paths


def _last_modules(model: nn.Module, name: Name) -> dict[int, str]:
    """Stride -> the last module with maps of that stride; a convolution for the classifier does not count.

    Looked at are the network's children and, inside a sequence, its members: blocks and stages, not their insides.
    """
    widening = _widening_convolution(model)
    paths: dict[nn.Module, str] = {}
    for path, child in model.named_children():
        members = child.named_children() if isinstance(child, nn.Sequential) else ()
        paths.update({member: f"{path}.{inner}" for inner, member in members} or {child: path})
    last: dict[int, str] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        is_map = isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] == output.shape[-2] > 1
        if is_map and paths[module] != widening:
            last[round(PROBE_SIDE / output.shape[-1])] = paths[module]

    handles = [module.register_forward_hook(note) for module in paths]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"gives no feature maps ({str(error).splitlines()[0]})", where=str(name)) from error
    finally:
        for handle in handles:
            handle.remove()
    return last


def _widening_convolution(model: nn.Module) -> str:
    """The name of a 1x1 convolution that ends `features` and widens it for the classifier (MobileNet, EfficientNet)."""
    features = getattr(model, "features", None)
    if not isinstance(features, nn.Sequential) or not isinstance(features[-1], nn.Sequential):
        return ""
    first = features[-1][0]
    is_widening = (
        isinstance(first, nn.Conv2d) and first.kernel_size == (1, 1) and first.out_channels > first.in_channels
    )
    return f"features.{len(features) - 1}" if is_widening else ""


def fetch_torchvision(name: Name) -> tuple[Path, Preprocessing]:
    models = import_optional("torchvision.models", "torchvision")
    _check_name(models, name)
    known = models.get_model_weights(name.base)
    if name.tag not in known.__members__:
        tags = ", ".join(f"torchvision:{name.base}@{tag}" for tag in known.__members__)
        raise UserError(f"no published file for torchvision:{name.base}@{name.tag}", fix=f"published: {tags}")
    entry = known[name.tag]
    file_name = entry.url.rpartition("/")[2]
    in_name = re.search(r"-([0-9a-f]{8,})\.pth$", file_name)
    remote = cache.RemoteFile(entry.url, file_name, str(name), short_hash=in_name[1] if in_name else None)
    shown = entry.transforms()
    pixels = Preprocessing(
        tuple(shown.mean),
        tuple(shown.std),
        resize=shown.resize_size[0],
        crop=shown.crop_size[0],
        interpolation=shown.interpolation.value,
    )
    return cache.fetch(remote), pixels
