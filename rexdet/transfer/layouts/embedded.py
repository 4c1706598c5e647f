"""The embedded classification set: pictures painted on the spot, so that the harness can be tried with nothing fetched.

Ten classes, each a shape with a surface pattern: every shape carries two patterns and every pattern lies on two shapes,
so that neither tells the class alone. Colours, sizes, turns, places and grounds are random and the same for all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexdet.coco import shapes, textures
from rexdet.transfer.images import ArrayImage
from rexdet.transfer.layouts.entries import Entries, Layout

# Raised whenever the pictures that a seed gives change.
GENERATOR_VERSION = 1
SEED = 0
SIDE = 64
SPLITS = {"train": 2_000, "val": 500, "test": 1_000}

_SHAPES = {
    "disc": shapes.disc,
    "square": shapes.square,
    "triangle": shapes.triangle,
    "star": shapes.star,
    "cross": shapes.cross,
}
_PATTERNS = {
    "striped": textures.stripes,
    "checked": textures.checks,
    "dotted": textures.dots,
    "ringed": textures.rings,
    "zigzag": textures.waves,
}
# Each shape with its own pattern and the next one's.
_CLASSES = tuple(
    (pattern, shape)
    for number, shape in enumerate(_SHAPES)
    for pattern in (list(_PATTERNS)[number], list(_PATTERNS)[(number + 1) % len(_PATTERNS)])
)
CLASSES = tuple(f"{pattern} {shape}" for pattern, shape in _CLASSES)


def read_embedded(place: Path, split: str) -> Entries:
    """Paint a split, classes in turn. place: not used, nothing lies on the disk."""
    count = SPLITS[split]
    pictures = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    for number in range(count):
        pictures[number] = paint(SEED, split, number)
    return Entries(
        tuple(ArrayImage(f"{split}/{number:05}", pictures, number) for number in range(count)),
        tuple(CLASSES[number % len(CLASSES)] for number in range(count)),
        CLASSES,
    )


EMBEDDED_LAYOUT = Layout(folders=(), train=(), test=(), read=read_embedded)


def paint(seed: int, split: str, number: int) -> NDArray[np.uint8]:
    """Picture `number` of a split, of class `number` modulo ten: (64, 64, 3) uint8 RGB.

    It depends on the arguments alone; the same versions of NumPy and Pillow give the same bytes.
    """
    random = np.random.default_rng([seed, list(SPLITS).index(split), number, GENERATOR_VERSION])
    pattern, shape = _CLASSES[number % len(_CLASSES)]
    ground = textures.background(random, SIDE, SIDE)
    radius = random.uniform(0.34, 0.46) * SIDE
    centre = random.uniform(0.42, 0.58, size=2) * SIDE
    # Within 29 degrees, and large: of any turn or smaller, 300 steps from scratch learn next to nothing.
    turn = random.uniform(-0.5, 0.5)
    period = random.uniform(8, 13)
    first = random.uniform(20, 235, size=3)
    # The second colour is far from the first: a pattern that cannot be seen would be a label that is wrong.
    step = np.where(first < 128, 1, -1) * random.uniform(70, 110, size=3)
    places = np.arange(SIDE, dtype=np.float32)
    across, down = places[None, :] - np.float32(centre[0]), places[:, None] - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = cosine * across + sine * down, cosine * down - sine * across
    inside = np.float32(0.5) - np.float32(radius) * _SHAPES[shape](x / np.float32(radius), y / np.float32(radius))
    share = _PATTERNS[pattern](x / np.float32(period), y / np.float32(period))
    surface = first.astype(np.float32) + share[..., None] * step.astype(np.float32)
    painted = ground + (surface - ground) * np.clip(inside, 0, 1)[..., None]
    painted += np.float32(6) * random.standard_normal(painted.shape, dtype=np.float32)
    return np.clip(painted, 0, 255).astype(np.uint8)
