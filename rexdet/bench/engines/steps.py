"""Each step from a picture file to the network's input, the same input to both engines: how far they come apart."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rexdet.bench.engines import ways
from rexdet.bench.engines.pictures import KINDS, write_kinds
from rexdet.coco.annotations import CocoDataset

# COCO's pictures of 480 px at RetinaNet's 800, and the other way: what is made larger and what is made smaller.
ENLARGED, REDUCED = 5 / 3, 1 / 2
SCALE = (1333, 800)
SIZES = 20_000
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@dataclass(frozen=True)
class Difference:
    """How far the engines are apart after a step. largest, mean: in `unit`; None where the shapes differ.

    detectron2, mmdetection: what computes the step in each.
    """

    step: str
    detectron2: str
    mmdetection: str
    largest: float | None
    mean: float | None
    unit: str = "grey levels"
    note: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of picture file.

    here: largest difference between the engines as rexdet runs them, None where sizes differ.
    detectron2_alone, mmdetection_alone: in words, what the engine's own reading gives against rexdet's.
    """

    kind: str
    here: float | None
    detectron2_alone: str
    mmdetection_alone: str


def measure_steps(dataset: CocoDataset, pictures: int = 40) -> list[Difference]:
    """Decoding, sizes, resize, boxes, normalisation and padding, each from the same input; then the whole way."""
    count = min(pictures, len(dataset))
    first, second = ways.Detectron2Way(dataset, None), ways.MMDetectionWay(dataset, None)
    decoded, others = ([way(index) for index in range(count)] for way in (first, second))
    return [
        _compare("decoding, the embedded set's JPEGs", "Pillow", "OpenCV", zip(decoded, others, strict=True)),
        _sizes(),
        _resizes(decoded, ENLARGED),
        _resizes(decoded, REDUCED),
        _boxes(),
        _normalisation(decoded),
        _whole(dataset, count),
    ]


def measure_kinds() -> list[Kind]:
    """Every kind of picture file: both engines as they are run here, and each engine's own reading against that."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_kinds(Path(folder))
        first, second = ways.Detectron2Way(dataset, None), ways.MMDetectionWay(dataset, None)
        rows = []
        for index, kind in enumerate(KINDS):
            here, there, path = first(index), second(index), str(dataset.image(index).path)
            rows.append(
                Kind(
                    kind,
                    largest(here, there),
                    _beside(here, lambda path=path: ways.decoded_by_detectron2(path)),  # type: ignore[misc]
                    _beside(there, lambda path=path: ways.decoded_by_mmdetection(path)),  # type: ignore[misc]
                )
            )
    return rows


def largest(one: np.ndarray, other: np.ndarray) -> float | None:
    """The largest difference of two arrays, None where their shapes differ."""
    if one.shape != other.shape:
        return None
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def _compare(
    step: str, detectron2: str, mmdetection: str, pairs: Iterable[tuple[np.ndarray, np.ndarray]], unit: str = ""
) -> Difference:
    most, total, values = 0.0, 0.0, 0
    for one, other in pairs:
        if one.shape != other.shape:
            note = f"{_size(one)} and {_size(other)}"
            return Difference(step, detectron2, mmdetection, None, None, note=note)
        apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
        most, total, values = max(most, float(apart.max(initial=0.0))), total + float(apart.sum()), values + apart.size
    return Difference(step, detectron2, mmdetection, most, total / max(values, 1), unit or "grey levels")


def _sizes() -> Difference:
    """How the sizes after the resize are rounded, over sizes of all kinds."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(50, 2000, (SIZES, 2)).tolist()
    new = np.array([[ways.size_by_detectron2(w, h, SCALE), ways.size_by_mmdetection(w, h, SCALE)] for w, h in sizes])
    apart = np.abs(new[:, 0] - new[:, 1])
    differing = int((apart > 0).any(axis=1).sum())
    return Difference(
        f"size at {SCALE[1]} px, at most {SCALE[0]}",
        "scaled twice, rounded",
        "scaled once, rounded",
        float(apart.max()),
        float(apart.mean()),
        "px",
        f"{differing} of {SIZES} sizes differ",
    )


def _scaled(size: tuple[int, ...], factor: float) -> tuple[int, int]:
    height, width = size[:2]
    return round(max(height, width) * factor), round(min(height, width) * factor)


def _resizes(pictures: list[np.ndarray], factor: float) -> Difference:
    pairs = (
        (
            ways.resized_by_detectron2(picture, _scaled(picture.shape, factor)),
            ways.resized_by_mmdetection(picture, _scaled(picture.shape, factor)),
        )
        for picture in pictures
    )
    return _compare(f"resize, {factor:.2f} times as large", "Pillow, bilinear", "OpenCV, bilinear", pairs)


def _boxes() -> Difference:
    """Ground truth after a resize whose two factors are not quite the same."""
    size, scale = (427, 640), SCALE
    generator = np.random.default_rng(0)
    corners = np.sort(generator.uniform(0, 1, (200, 2, 2)), axis=1) * np.array([size[1], size[0]])
    boxes = corners.reshape(-1, 4).astype(np.float32)
    new_width, new_height = ways.size_by_detectron2(size[1], size[0], scale)
    pair = (
        ways.boxes_by_detectron2(boxes, size, (new_height, new_width)),
        ways.resized_by_mmdetection(np.zeros((*size, 3), np.uint8), scale, boxes),
    )
    return _compare("boxes after the resize", "float64", "float32", [pair], "px")


def _normalisation(pictures: list[np.ndarray]) -> Difference:
    """Mean, deviation, channel order and padding: two pictures of two sizes in a batch."""
    batch = [pictures[0], ways.resized_by_detectron2(pictures[-1], _scaled(pictures[-1].shape, 1.2))]
    pair = [
        way(batch, _MEAN, _STD).numpy() for way in (ways.network_input_of_detectron2, ways.network_input_of_mmdetection)
    ]
    spread = np.array(_STD).reshape(1, -1, 1, 1)
    levels = [(pair[0] * spread, pair[1] * spread)]
    return _compare("normalisation, order, padding to 32", "then padded", "then padded", levels)


def _whole(dataset: CocoDataset, count: int) -> Difference:
    scale = _scaled(np.asarray(dataset.image_sizes)[0], ENLARGED)
    first, second = ways.Detectron2Way(dataset, scale), ways.MMDetectionWay(dataset, scale)
    pairs = ((first(index), second(index)) for index in range(count))
    return _compare(f"file to network, {ENLARGED:.2f} times as large", "Pillow", "OpenCV", pairs)


def _beside(own: np.ndarray, read: Callable[[], np.ndarray]) -> str:
    """An engine's own reading of a file against rexdet's in that engine, in words."""
    try:
        other = read()
    except Exception as error:
        # A comparison of somebody else's reading: whatever it raises is what is to be told.
        return f"{type(error).__name__}"
    apart = largest(own, other)
    return f"{_size(other)} instead of {_size(own)}" if apart is None else f"{apart:.0f}"


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
