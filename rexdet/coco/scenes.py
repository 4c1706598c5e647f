"""One picture of the embedded data set: what lies where, painted, with outlines true to the pixels.

A class is a shape with a surface pattern. Colours, sizes, turns, periods and places are random and have the same
distribution for every class. Objects overlap; the one painted later hides the earlier, and an annotation tells what
can be seen: box, area and polygons are those of the visible pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rexdet.coco import shapes, textures
from rexdet.coco.outlines import mask_to_polygons


@dataclass(frozen=True)
class ObjectClass:
    """A class of the embedded data set: its name, its shape and the pattern of its surface."""

    name: str
    shape: shapes.Shape
    pattern: textures.Pattern


CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("striped disc", shapes.disc, textures.stripes),
    ObjectClass("checked square", shapes.square, textures.checks),
    ObjectClass("dotted triangle", shapes.triangle, textures.dots),
    ObjectClass("ringed star", shapes.star, textures.rings),
    ObjectClass("zigzag cross", shapes.cross, textures.waves),
)

# Shares of pictures, and shapes of the random numbers below. Lengths are shares of the picture's shorter side.
EMPTY_SHARE = 0.04
CROWD_SHARE = 0.08
LARGE_SHARE = 0.06
MOST_OBJECTS = 6
RADII = (0.07, 0.26)
LARGE_RADII = (0.48, 0.62)
CROWD_RADII = (0.035, 0.05)
CROWD_MEMBERS = (8, 16)
# An object stays if at least this share of it, and at least this many pixels, can be seen in the end.
LEAST_VISIBLE_SHARE = 0.5
LEAST_VISIBLE_PIXELS = 40
_PLACING_ATTEMPTS = 12


@dataclass
class SceneObject:
    """An object, or a crowd of them, in a picture.

    class_index: index into CLASSES. left, top: where `mask` lies in the picture. mask: (h, w) bool, the visible pixels.
    whole_area: its pixels inside the picture before others hid some. crowd: many tiny objects of one class as one
    region.
    """

    class_index: int
    left: int
    top: int
    mask: NDArray[np.bool_]
    whole_area: int
    crowd: bool = False

    def hide(self, left: int, top: int, mask: NDArray[np.bool_]) -> None:
        """Take the pixels of a later object away."""
        window = self._window(left, top, mask)
        if window is not None:
            mine, others = window
            self.mask[mine] &= ~mask[others]

    def overlap(self, left: int, top: int, mask: NDArray[np.bool_]) -> int:
        """Count the visible pixels that an object at this place would hide."""
        window = self._window(left, top, mask)
        return 0 if window is None else int(np.count_nonzero(self.mask[window[0]] & mask[window[1]]))

    def _window(
        self, left: int, top: int, mask: NDArray[np.bool_]
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
        x0, x1 = max(self.left, left), min(self.left + self.mask.shape[1], left + mask.shape[1])
        y0, y1 = max(self.top, top), min(self.top + self.mask.shape[0], top + mask.shape[0])
        if x0 >= x1 or y0 >= y1:
            return None
        return (
            (slice(y0 - self.top, y1 - self.top), slice(x0 - self.left, x1 - self.left)),
            (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)),
        )

    def visible_box(self) -> tuple[int, int, int, int]:
        """The extent of the visible pixels as x, y, width, height, in whole pixels."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return (
            self.left + int(columns[0]),
            self.top + int(rows[0]),
            int(columns[-1] - columns[0]) + 1,
            int(rows[-1] - rows[0]) + 1,
        )

    def polygons(self) -> list[list[int]]:
        """The outlines of the visible pixels, as COCO's `segmentation` takes them."""
        return mask_to_polygons(self.mask, self.left, self.top)


@dataclass
class Scene:
    """A painted picture, (H, W, 3) uint8 RGB, and its objects in the order in which they were painted."""

    image: NDArray[np.uint8]
    objects: list[SceneObject] = field(default_factory=list)


@dataclass(frozen=True)
class _Look:
    """How one object is painted; all of it random, none of it told by the class."""

    radius: float
    squeeze: float
    turn: float
    pattern_turn: float
    period: float
    colours: NDArray[np.float32]

    @classmethod
    def draw(cls, random: np.random.Generator, radius: float) -> _Look:
        first = random.uniform(20, 235, size=3)
        # The second colour differs enough from the first for the pattern to be seen: by 70 in luminance.
        weights = np.array([0.299, 0.587, 0.114])
        second = random.uniform(20, 235, size=3)
        while abs(float(weights @ (first - second))) < 70:
            second = random.uniform(20, 235, size=3)
        return cls(
            radius=radius,
            squeeze=float(random.uniform(0.8, 1.0)),
            turn=float(random.uniform(0, 2 * np.pi)),
            pattern_turn=float(random.uniform(0, 2 * np.pi)),
            period=float(max(5.0, radius * random.uniform(0.35, 0.6))),
            colours=np.stack([first, second]).astype(np.float32),
        )


def render_scene(random: np.random.Generator, width: int, height: int) -> Scene:
    """Compose and paint one picture; every number in it is drawn from `random`."""
    canvas = textures.background(random, width, height)
    scene = Scene(image=np.empty((height, width, 3), dtype=np.uint8))
    if random.random() >= EMPTY_SHARE:
        _fill(scene, canvas, random)
    canvas += random.standard_normal((height, width, 1), dtype=np.float32) * np.float32(random.uniform(1, 5))
    scene.image[:] = np.clip(canvas + np.float32(0.5), 0, 255)
    return scene


def _fill(scene: Scene, canvas: textures.Floats, random: np.random.Generator) -> None:
    side = min(canvas.shape[:2])
    if random.random() < CROWD_SHARE:
        _place_crowd(scene, canvas, random, side)
    count = int(random.integers(1, MOST_OBJECTS + 1))
    radii = np.exp(random.uniform(np.log(RADII[0]), np.log(RADII[1]), size=count))
    if random.random() < LARGE_SHARE:
        radii[0] = random.uniform(*LARGE_RADII)
    # Large objects are painted first, so that small ones lie on them and are not buried.
    for radius in np.sort(radii)[::-1]:
        _place(scene, canvas, random, float(radius) * side)


def _place(scene: Scene, canvas: textures.Floats, random: np.random.Generator, radius: float) -> None:
    """Paint one object of a random class where it leaves enough of the others to be seen, if there is such a place."""
    height, width = canvas.shape[:2]
    class_index = int(random.integers(len(CLASSES)))
    look = _Look.draw(random, radius)
    # Up to a fifth of the radius may lie beyond the border.
    margin = min(0.8 * radius, 0.5 * min(width, height))
    for _ in range(_PLACING_ATTEMPTS):
        x, y = float(random.uniform(margin, width - margin)), float(random.uniform(margin, height - margin))
        left, top, distance, coordinates = _rasterise(class_index, look, x, y, width, height)
        mask = distance < 0
        if _leaves_enough(scene, left, top, mask):
            _paint(canvas, class_index, look, left, top, distance, coordinates)
            for other in scene.objects:
                other.hide(left, top, mask)
            scene.objects.append(SceneObject(class_index, left, top, mask, int(np.count_nonzero(mask))))
            return


def _leaves_enough(scene: Scene, left: int, top: int, mask: NDArray[np.bool_]) -> bool:
    pixels = int(np.count_nonzero(mask))
    if pixels < LEAST_VISIBLE_PIXELS:
        return False
    for other in scene.objects:
        hidden = other.overlap(left, top, mask)
        # An object that lies wholly on another would cut a hole into it, which polygons cannot tell.
        if hidden == pixels or (other.crowd and hidden):
            return False
        visible = int(np.count_nonzero(other.mask)) - hidden
        if hidden and (visible < LEAST_VISIBLE_PIXELS or visible < LEAST_VISIBLE_SHARE * other.whole_area):
            return False
    return True


def _place_crowd(scene: Scene, canvas: textures.Floats, random: np.random.Generator, side: int) -> None:
    """Paint many tiny objects of one class close together: a region that COCO marks `iscrowd`."""
    height, width = canvas.shape[:2]
    class_index = int(random.integers(len(CLASSES)))
    region = np.zeros((height, width), dtype=bool)
    spread = 0.16 * side
    centre_x, centre_y = random.uniform(0.25 * width, 0.75 * width), random.uniform(0.25 * height, 0.75 * height)
    for _ in range(int(random.integers(CROWD_MEMBERS[0], CROWD_MEMBERS[1] + 1))):
        radius = float(random.uniform(*CROWD_RADII)) * side
        look = _Look.draw(random, radius)
        x = float(np.clip(centre_x + spread * random.uniform(-1, 1), radius, width - radius))
        y = float(np.clip(centre_y + spread * random.uniform(-1, 1), radius, height - radius))
        left, top, distance, coordinates = _rasterise(class_index, look, x, y, width, height)
        _paint(canvas, class_index, look, left, top, distance, coordinates)
        region[top : top + distance.shape[0], left : left + distance.shape[1]] |= distance < 0
    scene.objects.append(SceneObject(class_index, 0, 0, region, int(np.count_nonzero(region)), crowd=True))


def _rasterise(
    class_index: int, look: _Look, x: float, y: float, width: int, height: int
) -> tuple[int, int, textures.Floats, tuple[textures.Floats, textures.Floats]]:
    """Signed distance in pixels to an object's outline over the part of the picture that it can touch.

    Returns left, top, distance (h, w), and the pixel centres relative to the object's, in pixels: (h, w) each.
    """
    left, right = max(0, int(x - look.radius) - 1), min(width, int(x + look.radius) + 3)
    top, bottom = max(0, int(y - look.radius) - 1), min(height, int(y + look.radius) + 3)
    dx = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x))[None, :]
    dy = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None]
    along, across = _turned(dx, dy, look.turn)
    scale = np.float32(1 / look.radius)
    distance = CLASSES[class_index].shape(along * scale, across * (scale / np.float32(look.squeeze)))
    return left, top, distance * np.float32(look.radius * look.squeeze), (dx, dy)


def _paint(
    canvas: textures.Floats,
    class_index: int,
    look: _Look,
    left: int,
    top: int,
    distance: textures.Floats,
    coordinates: tuple[textures.Floats, textures.Floats],
) -> None:
    u, v = _turned(*coordinates, look.pattern_turn)
    scale = np.float32(1 / look.period)
    share = CLASSES[class_index].pattern(u * scale, v * scale)[..., None]
    colour = look.colours[0] + (look.colours[1] - look.colours[0]) * share
    opacity = np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
    window = canvas[top : top + distance.shape[0], left : left + distance.shape[1]]
    window += (colour - window) * opacity


def _turned(x: textures.Floats, y: textures.Floats, angle: float) -> tuple[textures.Floats, textures.Floats]:
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine
