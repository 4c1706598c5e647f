"""The file of LW-DNA's ResNet-50 (resnet50_lwdna.pt): a ResNet-50 whose widths are its own in every layer.

Its authors load it by position: the tensors of torchvision's ResNet-50 in their order, whatever their names. They are
torchvision's, or those of the network that the search emits: `features.N.layer1.weight`, `.bn_main.*`, `.downsample.*`,
`classifier`. Vectors of the search (`latent_vector_stage0` ...) may stand before them and are no part of the network.

Source: model/resnet_imagenet.py, model_dhp/resnet_imagenet_dhp.py and model_dhp/dhp_base.py of
github.com/ofsoundof/Heterogeneity_Hypothesis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor

from rexdet.weights.resnet_layouts import NORM, State, in_our_order, names_fit_shapes

# Blocks of each stage of ResNet-50, the only network of which there is such a file.
DEPTHS = (3, 4, 6, 3)
BLOCK_KEYS = re.compile(rf"features\.\d+\.(?:layer[123]|downsample)\.(?:weight|bn_main\.{NORM})")
KEYS = re.compile(rf"features\.0\.(?:weight|bn_main\.{NORM})|{BLOCK_KEYS.pattern}|classifier\.(?:weight|bias)")
LEFT_OUT = re.compile(r"(?:.*\.)?latent_vector\w*")
_NORM_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# The stem and the max-pooling come first in `features`.
_FIRST_BLOCK = 2


def from_names(state: State) -> dict[str, Tensor]:
    """The names of the network that the search emits -> ours. Raises ValueError for keys that make no network."""
    blocks = sorted({int(key.split(".")[1]) for key in state if BLOCK_KEYS.fullmatch(key)})
    starts = {int(key.split(".")[1]) for key in state if ".downsample." in key}
    if blocks != list(range(_FIRST_BLOCK, _FIRST_BLOCK + len(blocks))) or _FIRST_BLOCK not in starts:
        raise ValueError(f"its blocks are {', '.join(map(str, blocks))} and its stages begin at {sorted(starts)}")
    places: dict[int, str] = {}
    stage = block = -1
    for number in blocks:
        stage, block = (stage + 1, 0) if number in starts else (stage, block + 1)
        places[number] = f"stages.{stage}.{block}"
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        top, *rest = key.split(".")
        if top == "classifier":
            ours[f"head.{rest[0]}"] = tensor
            continue
        index, *part, leaf = rest
        kind = "norm" if part[-1:] == ["bn_main"] else "conv"
        if index == "0":
            ours[f"stem.{kind}.{leaf}"] = tensor
        else:
            unit = "projection" if part[0] == "downsample" else f"unit{part[0][-1]}"
            ours[f"{places[int(index)]}.{unit}.{kind}.{leaf}"] = tensor
    return in_our_order(ours)


def keys_by_position(state: State) -> tuple[str, ...]:
    """The keys of a ResNet-50 in torchvision's order whose names do not say so; () where the tensors are none.

    Every tensor must have a shape that its place allows, every width must be read by whoever comes behind, and names
    in torchvision's manner must contradict their tensors: else they are right.
    """
    own = {key: tensor for key, tensor in state.items() if not LEFT_OUT.fullmatch(key)}
    if len(own) != len(_our_keys()) or not _is_resnet(list(own.values())):
        return ()
    return tuple(own)


def from_positions(state: State) -> dict[str, Tensor]:
    """The tensors in torchvision's order -> ours, whatever their names."""
    return dict(zip(_our_keys(), state.values(), strict=True))


def contradicts_its_names(state: State) -> bool:
    """Names in torchvision's manner that stand before other tensors than they say, in a file that positions explain."""
    return not names_fit_shapes(state) and bool(keys_by_position(state))


def _our_keys() -> list[str]:
    keys = [*_unit_keys("stem")]
    for path, units in _blocks():
        for unit, _ in units:
            keys += _unit_keys(f"{path}.{unit}")
    return [*keys, "head.weight", "head.bias"]


def _unit_keys(path: str) -> Iterator[str]:
    yield f"{path}.conv.weight"
    for leaf in _NORM_LEAVES:
        yield f"{path}.norm.{leaf}"


def _blocks() -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """(path, (unit, side of its kernel) ...) of every block, in torchvision's order."""
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            units = [("unit1", 1), ("unit2", 3), ("unit3", 1)]
            yield f"stages.{stage}.{block}", [*units, ("projection", 1)] if block == 0 else units


def _is_resnet(tensors: list[Tensor]) -> bool:
    """Shapes as in a ResNet-50 of any widths: what one layer writes is what the next one reads."""
    shapes = iter([tuple(tensor.shape) for tensor in tensors])
    before = _take_unit(shapes, 3, 7)
    for _, units in _blocks():
        if before is None:
            return False
        inside: int | None = before
        for _, side in units[:3]:
            inside = _take_unit(shapes, inside, side) if inside is not None else None
        skip = _take_unit(shapes, before, 1) if len(units) == 4 else before
        if inside is None or skip != inside:
            return False
        before = inside
    weight, bias = next(shapes), next(shapes)
    return len(weight) == 2 and weight[1] == before and bias == weight[:1]


def _take_unit(shapes: Iterator[tuple[int, ...]], reads: int, side: int) -> int | None:
    """The channels that the next convolution and its norm write; None where they are not shaped as such."""
    convolution, *norm, counter = (next(shapes) for _ in range(1 + len(_NORM_LEAVES)))
    if len(convolution) != 4 or convolution[1:] != (reads, side, side):
        return None
    fits = all(shape == convolution[:1] for shape in norm) and counter in ((), (1,))
    return int(convolution[0]) if fits else None
