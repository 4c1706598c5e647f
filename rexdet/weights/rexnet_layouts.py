"""The layouts in which ReXNet's weights are published, and ours.

authors: one `features` sequence: convolution, norm and activation of the stem (0, 1, 2), the blocks (from 3), the last
    convolution and its norm; inside a block one `out` sequence whose positions depend on what the block has. The
    classifier is a 1x1 convolution. Source: rexnetv1.py and rexnetv1_lite.py, github.com/clovaai/rexnet.
timm: `stem`, blocks `features.N` with named parts, the last convolution as one more entry of `features`, `head.fc`.
    Source: timm/models/rexnet.py. There is no lite network in timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

State = Mapping[str, Tensor]

_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_AFFINE = r"(?:weight|bias)"

OUR_BLOCK_KEYS = re.compile(
    rf"blocks\.\d+\.(?:(?:expand|depthwise|project)\.(?:conv\.weight|norm\.{_NORM})"
    rf"|squeeze_excitation\.(?:(?:reduce|expand)\.{_AFFINE}|norm\.{_NORM}))"
)
OUR_KEYS = re.compile(
    rf"(?:stem|penultimate)\.(?:conv\.weight|norm\.{_NORM})|{OUR_BLOCK_KEYS.pattern}"
    rf"|head\.(?:{_AFFINE}|hidden\.{_AFFINE}|norm\.{_NORM}|classifier\.{_AFFINE})"
)
AUTHORS_BLOCK_KEYS = re.compile(rf"features\.\d+\.out\.\d+\.(?:{_NORM}|fc\.\d\.{_NORM})")
AUTHORS_KEYS = re.compile(rf"features\.\d+\.{_NORM}|{AUTHORS_BLOCK_KEYS.pattern}|output\.\d\.{_NORM}")
# `features_3` instead of `features.3` is what timm's own feature extractor writes.
TIMM_BLOCK_KEYS = re.compile(
    rf"features[._]\d+\.(?:conv_(?:exp|dw|pwl)\.(?:conv\.weight|bn\.{_NORM})|se\.(?:fc[12]\.{_AFFINE}|bn\.{_NORM}))"
)
TIMM_KEYS = re.compile(
    rf"stem\.(?:conv\.weight|bn\.{_NORM})|{TIMM_BLOCK_KEYS.pattern}"
    rf"|features[._]\d+\.(?:conv\.weight|bn\.{_NORM})|head\.fc\.{_AFFINE}"
)

_AUTHORS_FIRST_BLOCK = 3
_TIMM_PARTS = {"conv_exp": "expand", "conv_dw": "depthwise", "conv_pwl": "project"}
_TIMM_SQUEEZE = {"fc1": "reduce", "bn": "norm", "fc2": "expand"}
_AUTHORS_SQUEEZE = {"0": "reduce", "1": "norm", "3": "expand"}


def from_ourselves(state: State) -> dict[str, Tensor]:
    """Our own layout as it is."""
    return dict(state)


# --- the authors' layout


def from_authors(state: State) -> dict[str, Tensor]:
    """The authors' layout -> ours. Raises ValueError for keys that make no network."""
    blocks = sorted({int(key.split(".")[1]) for key in state if ".out." in key})
    after_blocks = blocks[-1] + 1
    positions = {block: _authors_positions(state, block) for block in blocks}
    is_lite = any(key.startswith("output.4.") for key in state)
    ours = {}
    for key, tensor in state.items():
        name = _authors_key_to_ours(key, after_blocks, positions, is_lite)
        is_pooled_convolution = key.startswith("output.") and tensor.dim() == 4
        ours[name] = tensor.flatten(1) if is_pooled_convolution else tensor
    return ours


def _authors_positions(state: State, block: int) -> dict[str, str]:
    """Position inside a block's sequence -> the part of ours that it is."""
    beginning = f"features.{block}.out."
    present = {key[len(beginning) :].split(".")[0] for key in state if key.startswith(beginning)}
    squeezes = {key[len(beginning) :].split(".")[0] for key in state if key.startswith(beginning) and ".fc." in key}
    # With an expansion everything behind it stands three places later: squeeze-excitation at 5, or the rest from 6 on.
    has_expansion = "5" in squeezes if squeezes else max(int(position) for position in present) >= 6
    return {position: part for part, position in _authors_parts(has_expansion, bool(squeezes))}


def _authors_parts(has_expansion: bool, has_squeeze: bool) -> Iterator[tuple[str, str]]:
    position = 0
    if has_expansion:
        yield from (("expand.conv", "0"), ("expand.norm", "1"))
        position = 3
    yield from (("depthwise.conv", str(position)), ("depthwise.norm", str(position + 1)))
    position += 2
    if has_squeeze:
        yield "squeeze_excitation", str(position)
        position += 1
    yield from (("project.conv", str(position + 1)), ("project.norm", str(position + 2)))


def _authors_key_to_ours(key: str, after_blocks: int, positions: Mapping[int, Mapping[str, str]], is_lite: bool) -> str:
    parts = key.split(".")
    if parts[0] == "output":
        names = {"0": "head.hidden", "1": "head.norm", "4": "head.classifier"} if is_lite else {"1": "head"}
        return f"{_look_up(names, parts[1], key)}.{parts[2]}"
    index = int(parts[1])
    if parts[2] != "out":
        names = {
            "0": "stem.conv",
            "1": "stem.norm",
            str(after_blocks): "penultimate.conv",
            str(after_blocks + 1): "penultimate.norm",
        }
        return f"{_look_up(names, parts[1], key)}.{parts[2]}"
    beginning = f"blocks.{index - _AUTHORS_FIRST_BLOCK}"
    part = _look_up(positions[index], parts[3], key)
    if parts[4] == "fc":
        return f"{beginning}.{part}.{_look_up(_AUTHORS_SQUEEZE, parts[5], key)}.{parts[6]}"
    return f"{beginning}.{part}.{parts[4]}"


def to_authors(state: State) -> dict[str, Tensor]:
    """Our layout -> the authors'."""
    blocks = _our_blocks(state)
    after_blocks = _AUTHORS_FIRST_BLOCK + max(blocks) + 1
    outer = {
        "stem.conv": "features.0",
        "stem.norm": "features.1",
        "penultimate.conv": f"features.{after_blocks}",
        "penultimate.norm": f"features.{after_blocks + 1}",
        "head.hidden": "output.0",
        "head.norm": "output.1",
        "head.classifier": "output.4",
        "head": "output.1",
    }
    squeeze = {ours: theirs for theirs, ours in _AUTHORS_SQUEEZE.items()}
    theirs = {}
    for key, tensor in state.items():
        if not key.startswith("blocks."):
            module, _, leaf = key.rpartition(".")
            is_convolution = module.startswith("head") and tensor.dim() == 2
            theirs[f"{outer[module]}.{leaf}"] = tensor[:, :, None, None] if is_convolution else tensor
            continue
        _, number, part, *rest = key.split(".")
        index = int(number)
        positions = dict(_authors_parts("expand" in blocks[index], "squeeze_excitation" in blocks[index]))
        beginning = f"features.{index + _AUTHORS_FIRST_BLOCK}.out"
        if part == "squeeze_excitation":
            theirs[f"{beginning}.{positions[part]}.fc.{squeeze[rest[0]]}.{rest[1]}"] = tensor
        else:
            theirs[f"{beginning}.{positions[f'{part}.{rest[0]}']}.{rest[1]}"] = tensor
    return theirs


# --- timm's layout


def from_timm(state: State) -> dict[str, Tensor]:
    """timm's layout -> ours. Raises ValueError for keys that make no network."""
    ours = {}
    for key, tensor in state.items():
        parts = re.sub(r"^features_(\d+)\.", r"features.\1.", key).split(".")
        if parts[0] == "stem":
            name = f"stem.{_timm_leaf(parts[1:])}"
        elif parts[0] == "head":
            name = f"head.{parts[2]}"
        elif parts[2] in _TIMM_PARTS:
            name = f"blocks.{parts[1]}.{_TIMM_PARTS[parts[2]]}.{_timm_leaf(parts[3:])}"
        elif parts[2] == "se":
            name = f"blocks.{parts[1]}.squeeze_excitation.{_TIMM_SQUEEZE[parts[3]]}.{parts[4]}"
        else:
            name = f"penultimate.{_timm_leaf(parts[2:])}"
        if name in ours:
            raise ValueError(f"two tensors are {name}")
        ours[name] = tensor
    return ours


def _timm_leaf(parts: list[str]) -> str:
    return ".".join("norm" if part == "bn" else part for part in parts)


def to_timm(state: State) -> dict[str, Tensor]:
    """Our layout -> timm's. Raises ValueError for ReXNet-lite's head, which timm does not have."""
    if any(key.startswith("head.hidden.") for key in state):
        raise ValueError("timm has no ReXNet-lite")
    parts = {ours: theirs for theirs, ours in _TIMM_PARTS.items()}
    squeeze = {ours: theirs for theirs, ours in _TIMM_SQUEEZE.items()}
    last = max(_our_blocks(state)) + 1
    theirs = {}
    for key, tensor in state.items():
        head, _, rest = key.partition(".")
        renamed = re.sub(r"\bnorm\b", "bn", rest)
        if head == "stem":
            name = f"stem.{renamed}"
        elif head == "penultimate":
            name = f"features.{last}.{renamed}"
        elif head == "head":
            name = f"head.fc.{rest}"
        else:
            number, part, *leaf = rest.split(".")
            if part == "squeeze_excitation":
                name = f"features.{number}.se.{squeeze[leaf[0]]}.{leaf[1]}"
            else:
                name = f"features.{number}.{parts[part]}.{_ours_leaf(leaf)}"
        theirs[name] = tensor
    return theirs


def _ours_leaf(parts: list[str]) -> str:
    return ".".join("bn" if part == "norm" else part for part in parts)


# --- shared


def _our_blocks(state: State) -> dict[int, set[str]]:
    """Number of each block -> the parts that it has."""
    blocks: dict[int, set[str]] = {}
    for key in state:
        if key.startswith("blocks."):
            _, number, part = key.split(".")[:3]
            blocks.setdefault(int(number), set()).add(part)
    if not blocks:
        raise ValueError("no tensor of a block")
    return blocks


def _look_up(names: Mapping[str, str], position: str, key: str) -> str:
    if position not in names:
        raise ValueError(f"{key} stands where the layout has nothing")
    return names[position]
