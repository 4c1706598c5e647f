"""Surface patterns of the embedded data set's objects, and its backgrounds.

A pattern takes coordinates relative to the object's centre in units of the pattern's period (float32, any shape) and
gives the share of the second of the object's two colours, 0 to 1. Patterns carry no colour of their own, and both
colours are random, so that neither a colour nor the mean of both tells the class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Pattern = Callable[[Floats, Floats], Floats]

_TURN = np.float32(2 * np.pi)
# How steeply a pattern goes from one colour to the other: soft enough not to alias at periods of five pixels.
_STEEPNESS = np.float32(1.6)


def _two_tone(wave: Floats) -> Floats:
    return np.clip(np.float32(0.5) + _STEEPNESS * wave, 0.0, 1.0)


def stripes(u: Floats, v: Floats) -> Floats:
    """Parallel bars."""
    return _two_tone(np.sin(_TURN * u))


def checks(u: Floats, v: Floats) -> Floats:
    """A chessboard."""
    return _two_tone(np.sin(_TURN * np.float32(0.7) * u) * np.sin(_TURN * np.float32(0.7) * v) * np.float32(1.5))


def dots(u: Floats, v: Floats) -> Floats:
    """Round dots on a grid, which cover about two fifths of the surface."""
    wave = np.cos(_TURN * np.float32(0.8) * u) + np.cos(_TURN * np.float32(0.8) * v)
    return _two_tone(wave - np.float32(0.45))


def rings(u: Floats, v: Floats) -> Floats:
    """Circles around the centre."""
    return _two_tone(np.sin(_TURN * np.hypot(u, v)))


def waves(u: Floats, v: Floats) -> Floats:
    """Zigzag bars."""
    zigzag = np.abs(np.mod(v * np.float32(0.5), 1.0) - np.float32(0.5)) * np.float32(2.0)
    return _two_tone(np.sin(_TURN * (u + zigzag)))


def smooth_noise(random: np.random.Generator, cells: int, width: int, height: int) -> Floats:
    """Noise that varies over `cells` cells along each side: (height, width) float32, about 0 to 1."""
    coarse = Image.fromarray(random.random((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def background(random: np.random.Generator, width: int, height: int) -> Floats:
    """A textured ground between random colours: (height, width, 3) float32, about 0 to 255.

    Two octaves of smooth noise blend three colours; a faint oriented grating or a fine mottle lies over them, so that
    texture alone is no sign of an object.
    """
    colours = random.uniform(40, 215, size=(3, 3)).astype(np.float32)
    broad = smooth_noise(random, int(random.integers(2, 5)), width, height)
    fine = smooth_noise(random, int(random.integers(6, 18)), width, height)
    ground = colours[0] + (colours[1] - colours[0]) * broad[..., None]
    ground += (colours[2] - ground) * (np.float32(0.6) * np.clip(fine * 2 - np.float32(0.8), 0, 1))[..., None]
    strength = np.float32(random.uniform(0, 14))
    if random.random() < 0.5:
        angle, period = random.uniform(0, np.pi), random.uniform(5, 24)
        rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
        along = (columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))) / np.float32(period)
        ground += (strength * np.sin(_TURN * along))[..., None]
    else:
        mottle = smooth_noise(random, int(random.integers(24, 56)), width, height)
        ground += (2 * strength * (mottle - np.float32(0.5)))[..., None]
    return ground
