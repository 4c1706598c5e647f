"""ResNets as Detectron and detectron2 keep them: in the names of Caffe2, and in detectron2's own.

caffe2: `conv1_w`, `res_conv1_bn_*`, `res2_0_branch2a_w`, `res2_0_branch2a_bn_*`, `branch1` for the projection,
    `fc1000_w` or `pred_w`. The pickles of Detectron (R-50.pkl, X-101-32x8d.pkl) have norms folded into scale and shift
    (`bn_s`, `bn_b`); detectron2's files of the same names keep the statistics (`bn_gamma`, `bn_beta`,
    `bn_running_mean`, `bn_running_var`, elsewhere `bn_rm`, `bn_riv`). `gn_s`, `gn_b` is group norm.
detectron2_resnet: `stem.conv1`, `res2.0.conv1`, `.conv1.norm`, `.shortcut`; the classifier is `linear`, or `stem.fc` in
    what its tool made of torchvision's files.

Sources: detectron2/checkpoint/c2_model_loading.py and catalog.py, modeling/backbone/resnet.py,
tools/convert-torchvision-to-d2.py, MODEL_ZOO.md; names in the files as its loader prints them (issue 1698 there).

A folded norm is y = s x + b. Ours is y = s (x - m) / sqrt(v + eps) + b: with m = 0 and v = 1 - eps it is the same
function. v is 1 - 1e-5 in float32 (0.99999), and v + eps rounds to 1 exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from rexdet.nets.layers import NORM_EPSILON
from rexdet.weights.pixels import PRESETS, Preprocessing, read_pixels
from rexdet.weights.resnet_layouts import AFFINE, NORM, State, in_our_order

FOLDED_VARIANCE = 1.0 - NORM_EPSILON

_CAFFE2_NORM = r"(?:bn_(?:s|b|rm|riv|gamma|beta|running_mean|running_var)|gn_(?:s|b))"
CAFFE2_BLOCK_KEYS = re.compile(rf"res[2-5]_\d+_branch(?:1|2[abc])_(?:w|{_CAFFE2_NORM})")
CAFFE2_KEYS = re.compile(
    rf"conv1_w|res_conv1_{_CAFFE2_NORM}|conv1_gn_[sb]|{CAFFE2_BLOCK_KEYS.pattern}|(?:fc1000|pred)_[wb]"
)
# The bias of MSRA's first convolution has no place before a norm: Detectron and detectron2 do not read it either.
CAFFE2_LEFT_OUT = re.compile(r"conv1_b|\w+_momentum|lr|weight_order")
DETECTRON2_BLOCK_KEYS = re.compile(rf"res[2-5]\.\d+\.(?:conv[123]|shortcut)\.(?:weight|norm\.{NORM})")
DETECTRON2_KEYS = re.compile(
    rf"stem\.conv1\.(?:weight|norm\.{NORM})|{DETECTRON2_BLOCK_KEYS.pattern}|(?:linear|stem\.fc)\.{AFFINE}"
)
_NORM_LEAVES = {
    "s": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "rm": "running_mean",
    "running_mean": "running_mean",
    "riv": "running_var",
    "running_var": "running_var",
}
_BRANCHES = {"2a": "unit1", "2b": "unit2", "2c": "unit3", "1": "projection"}
_UNITS = {unit: branch for branch, unit in _BRANCHES.items()}
# ResNeXt-101 32x8d as FAIR trained it in Caffe2: PIXEL_STD of detectron2's faster_rcnn_X_101_32x8d_FPN_3x.yaml.
FAIR_PIXELS = read_pixels(
    {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "order": "BGR", "value_range": 255}
)


# --- Caffe2's names


def from_caffe2(state: State) -> dict[str, Tensor]:
    """Caffe2's names -> ours. Raises ValueError for keys that make no network."""
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _caffe2_key_to_ours(key)
        if name in ours:
            raise ValueError(f"two tensors are {name}")
        ours[name] = tensor
    if not _has_group_norm(state):
        _add_folded_statistics(ours)
    return in_our_order(ours)


def _caffe2_key_to_ours(key: str) -> str:
    match = re.fullmatch(r"res(\d)_(\d+)_branch(1|2[abc])_(.+)", key)
    if match:
        stage, block, branch, leaf = match.groups()
        return f"stages.{int(stage) - 2}.{block}.{_BRANCHES[branch]}.{_caffe2_leaf(leaf)}"
    beginning, _, leaf = key.partition("_")
    if beginning in ("fc1000", "pred"):
        return f"head.{'weight' if leaf == 'w' else 'bias'}"
    return f"stem.{_caffe2_leaf(leaf.removeprefix('conv1_'))}"


def _caffe2_leaf(leaf: str) -> str:
    if leaf == "w":
        return "conv.weight"
    return f"norm.{_NORM_LEAVES[leaf.partition('_')[2]]}"


def _add_folded_statistics(ours: dict[str, Tensor]) -> None:
    for key in [key for key in ours if key.endswith("norm.weight")]:
        norm = key.removesuffix("weight")
        if f"{norm}running_mean" not in ours and f"{norm}running_var" not in ours:
            ours[f"{norm}running_mean"] = torch.zeros_like(ours[key])
            ours[f"{norm}running_var"] = torch.full_like(ours[key], FOLDED_VARIANCE)


def to_caffe2(state: State) -> dict[str, Tensor]:
    """Our layout -> Caffe2's names; folded norms as scale and shift, others with their statistics.

    Counters of norms are left out. Raises ValueError for networks without bottlenecks in four stages.
    """
    if not any(".unit3." in key for key in state) or _is_small(state):
        raise ValueError("Caffe2's names are those of ResNets of bottlenecks for ImageNet")
    grouped = not any(key.endswith("running_var") for key in state)
    folded = has_folded_norms(state)
    theirs: dict[str, Tensor] = {}
    for key, tensor in state.items():
        leaf = key.rpartition(".")[2]
        if leaf == "num_batches_tracked" or (folded and leaf.startswith("running_")):
            continue
        theirs[_our_key_to_caffe2(key, grouped, folded)] = tensor
    return theirs


def _our_key_to_caffe2(key: str, grouped: bool, folded: bool) -> str:
    top, *rest = key.split(".")
    leaf = rest[-1]
    if top == "head":
        return f"fc1000_{leaf[0]}"
    if rest[-2] == "conv":
        ending = "w"
    elif grouped:
        ending = f"gn_{'s' if leaf == 'weight' else 'b'}"
    elif folded:
        ending = f"bn_{'s' if leaf == 'weight' else 'b'}"
    else:
        ending = f"bn_{ {'weight': 'gamma', 'bias': 'beta'}.get(leaf, leaf) }"
    if top == "stem":
        return f"{'res_conv1' if ending.startswith('bn_') else 'conv1'}_{ending}"
    stage, block, unit = rest[:3]
    return f"res{int(stage) + 2}_{block}_branch{_UNITS[unit]}_{ending}"


def caffe2_stride_in(state: State) -> str:
    """MSRA's ResNets have the stride in the first 1x1 convolution, FAIR's ResNeXts and group norms in the 3x3 one.

    Source: the note on MSRA models in detectron2/checkpoint/catalog.py.
    """
    return (
        "1x1"
        if _cardinality(state, "res2_0_branch2a_w", "res2_0_branch2b_w") == 1 and not _has_group_norm(state)
        else "3x3"
    )


def caffe2_pixels(state: State) -> Preprocessing:
    """0 to 255, BGR, mean subtracted; divided by a std in detectron2's ResNeXt alone (catalog.py and its configs)."""
    divided = _cardinality(state, "res2_0_branch2a_w", "res2_0_branch2b_w") > 1 and not any(
        key.endswith("_bn_s") for key in state
    )
    return FAIR_PIXELS if divided else PRESETS["caffe"]


# --- detectron2's own names


def from_detectron2(state: State) -> dict[str, Tensor]:
    """detectron2's names -> ours. Raises ValueError for keys that make no network."""
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _detectron2_key_to_ours(key)
        if name in ours:
            raise ValueError(f"two tensors are {name}")
        ours[name] = tensor
    return in_our_order(ours)


def _detectron2_key_to_ours(key: str) -> str:
    top, *rest = key.split(".")
    leaf = rest[-1]
    if top == "linear" or rest[0] == "fc":
        return f"head.{leaf}"
    kind = "norm" if rest[-2] == "norm" else "conv"
    if top == "stem":
        return f"stem.{kind}.{leaf}"
    unit = "projection" if rest[1] == "shortcut" else f"unit{rest[1][-1]}"
    return f"stages.{int(top[-1]) - 2}.{rest[0]}.{unit}.{kind}.{leaf}"


def to_detectron2(state: State) -> dict[str, Tensor]:
    """Our layout -> detectron2's names. Raises ValueError for the forms for 32 x 32 images."""
    if _is_small(state):
        raise ValueError("detectron2 has no networks for 32 x 32 images")
    return {_our_key_to_detectron2(key): tensor for key, tensor in state.items()}


def _our_key_to_detectron2(key: str) -> str:
    top, *rest = key.split(".")
    leaf = rest[-1]
    if top == "head":
        return f"linear.{leaf}"
    ending = f"norm.{leaf}" if rest[-2] == "norm" else leaf
    if top == "stem":
        return f"stem.conv1.{ending}"
    stage, block, unit = rest[:3]
    part = "shortcut" if unit == "projection" else f"conv{unit[-1]}"
    return f"res{int(stage) + 2}.{block}.{part}.{ending}"


def detectron2_stride_in(state: State) -> str | None:
    """Where the stride stands, as far as the tensors tell: detectron2's names say nothing about it.

    Converted from torchvision (`stem.fc`), in groups, or with group norm: 3x3, as in all of its configs. Folded norms
    come from Caffe2's ResNets: 1x1. Anything else may be either.
    """
    converted = any(key.startswith("stem.fc.") for key in state)
    grouped = not any(key.endswith("running_var") for key in state)
    if converted or grouped or _cardinality(state, "res2.0.conv1.weight", "res2.0.conv2.weight") > 1:
        return "3x3"
    return "1x1" if has_folded_norms(state) else None


def detectron2_pixels(state: State) -> Preprocessing:
    """torchvision's pixels where a file was made of one of its files, else those of Caffe2's networks."""
    if any(key.startswith("stem.fc.") for key in state):
        return PRESETS["imagenet"]
    return FAIR_PIXELS if _cardinality(state, "res2.0.conv1.weight", "res2.0.conv2.weight") > 1 else PRESETS["caffe"]


_DEEP_STEM = re.compile(r"stem\.conv[23]\.|stem\.conv1_\d")


def foreign_part(extra: Iterable[str]) -> str:
    """What makes a network with further keys another one than ours, in words; "" where nothing known does."""
    if any(_DEEP_STEM.match(key) for key in extra):
        return "a stem of several convolutions"
    return "deformable convolutions" if any("_offset" in key for key in extra) else ""


# --- shared


def has_folded_norms(state: State) -> bool:
    """Every norm has the statistics that stand for none: its scale and shift are all that it does."""
    means = [tensor for key, tensor in state.items() if key.endswith("running_mean")]
    variances = [tensor for key, tensor in state.items() if key.endswith("running_var")]
    return bool(variances) and all(
        not bool(mean.any()) and bool((variance == torch.full_like(variance, FOLDED_VARIANCE)).all())
        for mean, variance in zip(means, variances, strict=True)
    )


def _has_group_norm(state: State) -> bool:
    return any("_gn_" in key for key in state)


def _cardinality(state: State, first: str, middle: str) -> int:
    """Groups of a bottleneck's middle convolution: channels that it reads, by those that each of its filters sees."""
    if first not in state or middle not in state or state[middle].dim() != 4:
        return 1
    return int(state[first].shape[0]) // int(state[middle].shape[1])


def _is_small(state: State) -> bool:
    stem = state.get("stem.conv.weight")
    return stem is not None and stem.dim() == 4 and stem.shape[2] == 3
