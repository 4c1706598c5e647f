"""EfficientNets as the package efficientnet_pytorch names their tensors, to timm's names and back.

Its keys (`_conv_stem`, `_blocks.7._expand_conv`, `_fc`) count the blocks through; timm's (`blocks.3.1.conv_pw`) count
them in their stages. A stage begins where the number of channels changes, which in every EfficientNet it does between
stages and never inside of one, so both directions are told by the tensors alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from rexdet.weights.layouts import Layout
from rexdet.weights.pixels import IMAGENET, PRESETS, Preprocessing

State = Mapping[str, Tensor]
NAME = "efficientnet_pytorch"

_TENSORS = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_INNER = r"_(?:(?:expand|depthwise|project)_conv|se_reduce|se_expand|bn[012])"
_BLOCK_KEY = re.compile(rf"_blocks\.(\d+)\.({_INNER})\.({_TENSORS})")
_TIMM_BLOCK_KEY = re.compile(rf"blocks\.(\d+)\.(\d+)\.([a-z_0-9.]+)\.({_TENSORS})")
_KEYS = re.compile(rf"(?:{_BLOCK_KEY.pattern}|_(?:conv_stem|bn0|conv_head|bn1|fc)\.{_TENSORS})")

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# A block that widens its input first, and one that does not (the first stage).
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    **_SQUEEZE,
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", **_SQUEEZE, "_project_conv": "conv_pw", "_bn2": "bn2"}


def to_timm(state: State) -> dict[str, Tensor]:
    """The state under timm's keys, tensors unchanged. Raises ValueError for a block without its last convolution."""
    places = _places(state)
    expanding = {match[1] for key in state if (match := _BLOCK_KEY.fullmatch(key)) and match[2] == "_expand_conv"}
    made = {}
    for key, tensor in state.items():
        match = _BLOCK_KEY.fullmatch(key)
        if match is None:
            module, _, leaf = key.rpartition(".")
            made[f"{_OUTSIDE[module]}.{leaf}"] = tensor
            continue
        stage, position = places[int(match[1])]
        names = _EXPANDING if match[1] in expanding else _PLAIN
        if match[2] not in names:
            raise ValueError(f"{key} in a block without _expand_conv")
        made[f"blocks.{stage}.{position}.{names[match[2]]}.{match[3]}"] = tensor
    return made


def from_timm(state: State) -> dict[str, Tensor]:
    """The state under efficientnet_pytorch's keys, tensors unchanged. Raises ValueError for other keys."""
    numbers = {(int(match[1]), int(match[2])) for key in state if (match := _TIMM_BLOCK_KEY.fullmatch(key))}
    counted = {place: number for number, place in enumerate(sorted(numbers))}
    expanding = {place for place in numbers if f"blocks.{place[0]}.{place[1]}.conv_pwl.weight" in state}
    outside = {theirs: name for name, theirs in _OUTSIDE.items()}
    made = {}
    for key, tensor in state.items():
        match = _TIMM_BLOCK_KEY.fullmatch(key)
        if match is None:
            module, _, leaf = key.rpartition(".")
            names, inside, prefix = outside, module, ""
        else:
            place = int(match[1]), int(match[2])
            names = {theirs: name for name, theirs in (_EXPANDING if place in expanding else _PLAIN).items()}
            inside, leaf, prefix = match[3], match[4], f"_blocks.{counted[place]}."
        if inside not in names:
            raise ValueError(f"{key} has no name there")
        made[f"{prefix}{names[inside]}.{leaf}"] = tensor
    return made


def _places(state: State) -> dict[int, tuple[int, int]]:
    """Number of a block -> (stage, position in it)."""
    numbers = sorted({int(match[1]) for key in state if (match := _BLOCK_KEY.fullmatch(key))})
    places: dict[int, tuple[int, int]] = {}
    stage, position, before = -1, 0, None
    for number in numbers:
        last = state.get(f"_blocks.{number}._project_conv.weight")
        if last is None:
            raise ValueError(f"block {number} has no _project_conv")
        channels = int(last.shape[0])
        stage, position = (stage, position + 1) if channels == before else (stage + 1, 0)
        places[number], before = (stage, position), channels
    return places


def has_squeeze_excitation(keys: Iterable[str]) -> bool:
    """Whether the network is an EfficientNet with squeeze-excitation; EfficientNet-Lite has none."""
    return any("._se_reduce." in key or ".se.conv_reduce." in key for key in keys)


def usual_pixels(state: State) -> Preprocessing:
    """What such a file usually takes: ImageNet's mean and deviation, and 0.5 both for EfficientNet-Lite."""
    return IMAGENET if has_squeeze_excitation(state) else PRESETS["half"]


LAYOUT = Layout(
    NAME,
    "efficientnet",
    _KEYS,
    _BLOCK_KEY,
    ("_fc.",),
    to_timm,
    from_timm,
    pixels=usual_pixels,
)
