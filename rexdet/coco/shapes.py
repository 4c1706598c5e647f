"""Outlines of the embedded data set's objects, as signed distances.

Each function takes coordinates relative to the object's centre, in units of its radius (float32, any shape), and gives
the signed distance to the outline in the same units: negative inside, about right near the outline, which is what
smooth edges need. Every outline lies within distance 1 of the centre.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Shape = Callable[[Floats, Floats], Floats]

_STAR_POINTS = 5
# Wide enough for the points to span 45 degrees even when squeezed: narrower ones fall apart on the pixel grid.
_STAR_INNER_RADIUS = 0.52


def disc(x: Floats, y: Floats) -> Floats:
    """A circle of radius 0.92."""
    return np.hypot(x, y) - np.float32(0.92)


def square(x: Floats, y: Floats) -> Floats:
    """A square whose corners lie at radius 1."""
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.7071)


def triangle(x: Floats, y: Floats) -> Floats:
    """An equilateral triangle whose corners lie at radius 1."""
    slanted = np.float32(0.8660254) * np.abs(x) - np.float32(0.5) * y
    return np.maximum(slanted, y) - np.float32(0.5)


def star(x: Floats, y: Floats) -> Floats:
    """A star with five points at radius 1 and five notches at radius 0.52."""
    half_sector = np.pi / _STAR_POINTS
    radius = np.hypot(x, y)
    angle = np.abs(np.mod(np.arctan2(y, x) + half_sector, 2 * half_sector) - half_sector)
    across, along = radius * np.sin(angle), radius * np.cos(angle)
    notch_along, notch_across = _STAR_INNER_RADIUS * np.cos(half_sector), _STAR_INNER_RADIUS * np.sin(half_sector)
    edge_along, edge_across = notch_along - 1.0, notch_across
    length = np.hypot(edge_along, edge_across)
    # The edge from the point (1, 0) to the notch; its outward normal is (across, -along) of its direction.
    distance = ((along - 1.0) * edge_across - across * edge_along) / length
    return distance.astype(np.float32)


def cross(x: Floats, y: Floats) -> Floats:
    """A plus sign with arms 0.62 wide that reach 0.95 from the centre."""
    across, along = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return np.maximum(along - np.float32(0.95), across - np.float32(0.31))
