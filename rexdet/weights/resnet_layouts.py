"""Our layout of ResNets, and those in which torchvision and others publish them.

torchvision: `conv1`, `bn1`, `layer1.0.conv1` ..., `downsample.0` and `.1`, `fc`. timm's plain ResNets and ResNeXts have
    the same keys. Source: torchvision/models/resnet.py, timm/models/resnet.py.
akamaster: the CIFAR form with shortcuts without parameters; the same keys, the classifier is `linear`.
    Source: resnet.py, github.com/akamaster/pytorch_resnet_cifar10.
distiller: the CIFAR form with 1x1 convolutions for shortcuts; torchvision's keys.
    Source: models/cifar10/resnet_cifar.py, github.com/IntelLabs/distiller.

All of them have the stride of a bottleneck in its 3x3 convolution. But MMDetection's backbones of "caffe style" have
torchvision's keys, too, and the stride in the 1x1: only a file with a classifier is surely torchvision's or timm's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from rexdet.weights.pixels import IMAGENET, PRESETS, Preprocessing

State = Mapping[str, Tensor]

NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
AFFINE = r"(?:weight|bias)"
CIFAR_SIDE = 32

OUR_BLOCK_KEYS = re.compile(rf"stages\.\d+\.\d+\.(?:unit[123]|projection)\.(?:conv\.weight|norm\.{NORM})")
OUR_KEYS = re.compile(rf"stem\.(?:conv\.{AFFINE}|norm\.{NORM})|{OUR_BLOCK_KEYS.pattern}|head\.{AFFINE}")
TORCHVISION_BLOCK_KEYS = re.compile(
    rf"layer[1-4]\.\d+\.(?:conv[123]\.weight|bn[123]\.{NORM}|downsample\.(?:0\.weight|1\.{NORM}))"
)
_TORCHVISION_STEM = rf"conv1\.{AFFINE}|bn1\.{NORM}|{TORCHVISION_BLOCK_KEYS.pattern}"
TORCHVISION_KEYS = re.compile(rf"{_TORCHVISION_STEM}|fc\.{AFFINE}")
AKAMASTER_KEYS = re.compile(rf"{_TORCHVISION_STEM}|linear\.{AFFINE}")

_UNIT_ORDER = ("unit1", "unit2", "unit3", "projection")
_LEAVES = (
    *("conv.weight", "conv.bias"),
    *(f"norm.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    *("weight", "bias"),
)


def in_our_order(state: State) -> dict[str, Tensor]:
    """The state with its keys in the order in which our network has them."""
    return dict(sorted(state.items(), key=lambda item: _place(item[0])))


def _place(key: str) -> tuple[int, ...]:
    top, _, rest = key.partition(".")
    if top != "stages":
        return 0 if top == "stem" else 2, 0, 0, 0, _LEAVES.index(rest)
    stage, block, unit, leaf = rest.split(".", 3)
    return 1, int(stage), int(block), _UNIT_ORDER.index(unit), _LEAVES.index(leaf)


# --- torchvision's keys


def from_torchvision(state: State) -> dict[str, Tensor]:
    """torchvision's layout, or akamaster's -> ours. Raises ValueError for keys that make no network."""
    return in_our_order({_torchvision_key_to_ours(key): tensor for key, tensor in state.items()})


def _torchvision_key_to_ours(key: str) -> str:
    top, *rest = key.split(".")
    if top in ("fc", "linear"):
        return f"head.{rest[0]}"
    if top in ("conv1", "bn1"):
        return f"stem.{'conv' if top == 'conv1' else 'norm'}.{rest[0]}"
    block, part, *leaf = rest
    if part == "downsample":
        unit, kind = "projection", "conv" if leaf.pop(0) == "0" else "norm"
    else:
        unit, kind = f"unit{part[-1]}", "conv" if part.startswith("conv") else "norm"
    return f"stages.{int(top.removeprefix('layer')) - 1}.{block}.{unit}.{kind}.{leaf[0]}"


def to_torchvision(state: State) -> dict[str, Tensor]:
    """Our layout -> torchvision's. Raises ValueError for the forms for 32 x 32 images, which torchvision lacks."""
    if _has_small_stem(state, "stem.conv.weight"):
        raise ValueError("torchvision has no networks for 32 x 32 images")
    return {_our_key_to_torchvision(key, "fc"): tensor for key, tensor in state.items()}


def to_akamaster(state: State) -> dict[str, Tensor]:
    """Our layout -> akamaster's. Raises ValueError for anything but its networks."""
    _check_basic_cifar(state, "akamaster")
    if any(".projection." in key for key in state):
        raise ValueError("akamaster's shortcuts have no convolutions")
    return {_our_key_to_torchvision(key, "linear"): tensor for key, tensor in state.items()}


def to_distiller(state: State) -> dict[str, Tensor]:
    """Our layout -> distiller's. Raises ValueError for anything but its networks."""
    _check_basic_cifar(state, "distiller")
    if not any(".projection." in key for key in state):
        raise ValueError("distiller's shortcuts are convolutions")
    return {_our_key_to_torchvision(key, "fc"): tensor for key, tensor in state.items()}


def _check_basic_cifar(state: State, name: str) -> None:
    if not _has_small_stem(state, "stem.conv.weight") or any(".unit3." in key for key in state):
        raise ValueError(f"{name} has the networks of basic blocks for 32 x 32 images alone")


def _our_key_to_torchvision(key: str, head: str) -> str:
    top, *rest = key.split(".")
    if top == "head":
        return f"{head}.{rest[0]}"
    if top == "stem":
        return f"{'conv1' if rest[0] == 'conv' else 'bn1'}.{rest[1]}"
    stage, block, unit, kind, leaf = rest
    if unit == "projection":
        part = f"downsample.{0 if kind == 'conv' else 1}"
    else:
        part = f"{'conv' if kind == 'conv' else 'bn'}{unit[-1]}"
    return f"layer{int(stage) + 1}.{block}.{part}.{leaf}"


# --- which of the layouts with torchvision's keys a state has


def is_akamaster(state: State) -> bool:
    """Basic blocks for small images, no convolution in any shortcut, and no classifier called `fc`."""
    return _is_basic_cifar(state) and not _has(state, ".downsample.") and "fc.weight" not in state


def is_distiller(state: State) -> bool:
    """The other networks of basic blocks for small images."""
    return _is_basic_cifar(state) and not is_akamaster(state) and "linear.weight" not in state


def is_torchvision(state: State) -> bool:
    """No network of basic blocks for small images."""
    return not _is_basic_cifar(state)


def names_fit_shapes(state: State) -> bool:
    """Every tensor has as many dimensions as its name in torchvision's layout says."""
    return all(tensor.dim() == _dimensions(key) for key, tensor in state.items())


def _dimensions(key: str) -> int:
    module, _, leaf = key.rpartition(".")
    if leaf == "num_batches_tracked":
        return 0
    if leaf != "weight":
        return 1
    name = module.rpartition(".")[2]
    if name in ("fc", "linear"):
        return 2
    return 4 if name.startswith("conv") or module.endswith("downsample.0") else 1


def _is_basic_cifar(state: State) -> bool:
    if _has(state, "layer4.") or _has(state, ".conv3."):
        return False
    return _has_small_stem(state, "conv1.weight") or "conv1.weight" not in state


def _has_small_stem(state: State, key: str) -> bool:
    return key in state and state[key].dim() == 4 and state[key].shape[2] == 3


def _has(state: State, part: str) -> bool:
    return any(part in key for key in state)


# --- what these layouts say beside their tensors

_FOREIGN = (
    (re.compile(r"conv1\.\d+\."), "a stem of several convolutions"),
    (re.compile(r"layer\d\.\d+\.downsample\.2\."), "pooling in its shortcuts"),
    (re.compile(r"layer\d\.\d+\.(?:se|se_module|attn|ca|eca)\."), "squeeze-excitation or another attention"),
    (re.compile(r"layer\d\.\d+\.(?:convs|bns)\."), "split convolutions in its blocks (Res2Net)"),
    (re.compile(r"layer\d\.\d+\.conv2\.\w+\."), "split attention in its blocks (ResNeSt, SKNet)"),
    (re.compile(r"layer\d\.\d+\.(?:aa|drop_block)\.|maxpool\."), "anti-aliased pooling"),
    (re.compile(r"layer\d\.\d+\.shortcut\."), "shortcuts of another form (four stages for 32 x 32 images)"),
    (re.compile(r"layer\d\.\d+\.conv\d\.bias"), "biases in its convolutions"),
)


def foreign_part(extra: Iterable[str]) -> str:
    """What makes a network with further keys another one than ours, in words; "" where nothing known does."""
    for pattern, words in _FOREIGN:
        if any(pattern.search(key) for key in extra):
            return words
    return ""


def torchvision_stride_in(state: State) -> str | None:
    """The place of the stride: the 3x3 convolution in a file with a classifier; a backbone alone may be of others."""
    return "3x3" if "fc.weight" in state else None


def akamaster_pixels(state: State) -> Preprocessing:
    """ImageNet's mean and std on whole pictures of 32 pixels (trainer.py of the repository)."""
    return replace(IMAGENET, resize=CIFAR_SIDE, crop=CIFAR_SIDE)


def distiller_pixels(state: State) -> Preprocessing:
    """Mean and std 0.5 on whole pictures of 32 pixels (apputils/data_loaders.py of the repository)."""
    return replace(PRESETS["half"], resize=CIFAR_SIDE, crop=CIFAR_SIDE)
