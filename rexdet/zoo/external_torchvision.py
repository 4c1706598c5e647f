"""Networks that torchvision defines: classifiers, feature maps, published files."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.optional import import_optional
from rexdet.weights import cache
from rexdet.weights.pixels import Preprocessing
from rexdet.zoo.external_published import PublishedByPackage, hash_in, matches_hash_in
from rexdet.zoo.names import Name, near
from rexdet.zoo.optional import CONSTRUCTION_ERRORS, PROBE_SIDE, STRIDES, check_options, in_one_line
from rexdet.zoo.rule import with_rule


def torchvision_model(name: Name, options: dict[str, Any]) -> nn.Module:
    """A classifier of torchvision with random weights. Raises UserError for a name or an option that is not there."""
    models = import_optional("torchvision.models", "torchvision")
    _check_name(models, name)
    check_options(options, str(name))
    try:
        model: nn.Module = models.get_model(name.base, weights=None, **options)
    except CONSTRUCTION_ERRORS as error:
        raise UserError(in_one_line(error), where=str(name)) from error
    return model


def _check_name(models: ModuleType, name: Name) -> None:
    names = models.list_models(module=models)
    if name.base not in names:
        close = ", ".join(f"torchvision:{one}" for one in near(name.base, names))
        raise UserError(
            f"torchvision has no classifier {name.base!r}",
            fix=f"did you mean {close}?" if close else "torchvision.models.list_models() lists them",
        )


def torchvision_body(name: Name, wanted: list[str], overrides: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    """torchvision's extractor of the wanted feature maps, with random weights, and the paths that the maps end at."""
    extraction = import_optional("torchvision.models.feature_extraction", "torchvision")
    # Before the maps are taken: there one forward calls everything, and blocks are no longer told apart.
    model = with_rule(torchvision_model(name, overrides), name.rule, str(name))
    modules = _last_modules(model, name)
    missing = [feature for feature in wanted if STRIDES[feature] not in modules]
    if missing:
        raise UserError(f"has no map for {', '.join(missing)}", where=str(name), fix="choose another network")
    paths = [modules[STRIDES[feature]] for feature in wanted]
    body: nn.Module = extraction.create_feature_extractor(model.train(), dict(zip(paths, wanted, strict=True)))
    return body, paths


def torchvision_tags(name: Name) -> list[str]:
    """The tags of torchvision's published files of a network."""
    models = import_optional("torchvision.models", "torchvision")
    _check_name(models, name)
    return list(models.get_model_weights(name.base).__members__)


def _last_modules(model: nn.Module, name: Name) -> dict[int, str]:
    """Stride -> the last module with maps of that stride; a convolution for the classifier does not count.

    Looked at are the network's children and, inside a sequence, its members: blocks and stages, not their insides.
    """
    paths: dict[nn.Module, str] = {}
    for path, child in model.named_children():
        members = child.named_children() if isinstance(child, nn.Sequential) else ()
        paths.update({member: f"{path}.{inner}" for inner, member in members} or {child: path})
    with_maps: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] == output.shape[-2] > 1:
            with_maps.append((module, round(PROBE_SIDE / output.shape[-1])))

    handles = [module.register_forward_hook(note) for module in paths]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"gives no feature maps ({str(error).splitlines()[0]})", where=str(name)) from error
    finally:
        for handle in handles:
            handle.remove()
    widening = _widening([module for module, _ in with_maps])
    return {stride: paths[module] for module, stride in with_maps if module not in widening}


def _widening(modules: list[nn.Module]) -> set[nn.Module]:
    """A 1x1 convolution that ends the maps and widens them for the classifier, with its norm and activation.

    modules: those with maps, in their order. MobileNet and EfficientNet have one, MNASNet and ShuffleNet in pieces.
    """
    behind: set[nn.Module] = set()
    for module in reversed(modules):
        behind.add(module)
        first = module[0] if isinstance(module, nn.Sequential) and len(module) else module
        if isinstance(first, nn.Conv2d):
            is_widening = first.kernel_size == first.stride == (1, 1) and first.out_channels > first.in_channels
            return behind if is_widening else set()
        if next(module.children(), None) is not None:
            return set()
    return set()


def torchvision_published(name: Name) -> PublishedByPackage:
    """What torchvision says about one of its published files. Raises UserError where it has no file of that tag."""
    models = import_optional("torchvision.models", "torchvision")
    _check_name(models, name)
    known = models.get_model_weights(name.base)
    if name.tag not in known.__members__:
        tags = ", ".join(f"torchvision:{name.base}@{tag}" for tag in known.__members__)
        raise UserError(f"no published file for torchvision:{name.base}@{name.tag}", fix=f"published: {tags}")
    entry = known[name.tag]
    remote = cache.RemoteFile(entry.url, entry.url.rpartition("/")[2], str(name), short_hash=hash_in(entry.url) or None)
    shown = entry.transforms()
    pixels = Preprocessing(
        tuple(shown.mean),
        tuple(shown.std),
        resize=shown.resize_size[0],
        crop=shown.crop_size[0],
        interpolation=shown.interpolation.value,
    )
    # torchvision's pages name a licence for its code; for the weights they do not.
    return PublishedByPackage(str(name), remote, pixels, entry.meta.get("license"))


def torchvision_by_hash(name: Name, sha256: str) -> PublishedByPackage | None:
    """The published file of that network whose name carries the beginning of this hash."""
    models = import_optional("torchvision.models", "torchvision")
    _check_name(models, name)
    for tag, entry in models.get_model_weights(name.base).__members__.items():
        if matches_hash_in(entry.url, sha256):
            return torchvision_published(Name(name.base, tag, name.package))
    return None
