"""Pictures of detections: what is drawn where, that it can be seen, and that names stay inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rexdet.coco.annotations import read_annotations
from rexdet.coco.draw import (
    LEAST_SIDE,
    Objects,
    class_colours,
    class_sheets,
    draw_detections,
    enlargement,
    side_by_side,
)
from rexdet.coco.generate import generate_embedded
from rexdet.coco.marks import draw_label, load_font
from rexdet.coco.scenes import CLASSES

Picture = NDArray[np.uint8]


def plain(height: int, width: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Picture:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def luminance(picture: Picture) -> NDArray[np.float64]:
    return np.asarray(picture, dtype=np.float64) @ np.array([0.299, 0.587, 0.114])


def test_a_large_picture_keeps_its_size_and_is_not_written_to() -> None:
    picture = plain(600, 800)
    drawn = draw_detections(picture, [[100, 100, 300, 200]], ["cat"], [0.9])
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert (picture == 128).all()
    assert (drawn != 128).any()


@pytest.mark.parametrize(("side", "factor"), [(64, 8), (128, 4), (200, 3), (511, 2), (512, 1), (4000, 1)])
def test_small_pictures_are_enlarged_by_a_whole_number(side: int, factor: int) -> None:
    picture = plain(side // 2, side)
    assert enlargement(picture) == factor
    assert factor * side >= min(side, LEAST_SIDE)
    if side < 1000:
        assert draw_detections(picture, [], []).shape == (side // 2 * factor, side * factor, 3)


def test_the_box_lies_on_the_pixels_that_it_names() -> None:
    colour = (10, 200, 30)
    drawn = draw_detections(plain(600, 600), [[200, 300, 400, 500]], ["cat"], colours={"cat": colour})
    rows, columns = np.nonzero((drawn == colour).all(axis=-1))
    assert (columns.min(), columns.max()) == (200, 399)
    assert rows.max() == 499
    assert (drawn[400, 250:350] == 128).all(), "nothing is drawn inside"


@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 255), (128, 128, 128), "own"])
def test_boxes_and_names_stand_out_from_any_background(background: tuple[int, int, int] | str) -> None:
    for name, colour in class_colours([f"class {k}" for k in range(12)]).items():
        ground = colour if isinstance(background, str) else background
        drawn = draw_detections(plain(520, 520, ground), [[100, 200, 300, 400]], [name], colours={name: colour})
        difference = np.abs(luminance(drawn) - luminance(plain(1, 1, ground))[0, 0])
        assert difference[300, 95:110].max() > 20, "the left edge of the box"
        label = np.abs(luminance(drawn)[180:200, 100:180] - luminance(plain(1, 1, colour))[0, 0])
        assert (label > 90).sum() > 40, "the letters on the name's own ground"


def test_a_crowd_has_a_dashed_box() -> None:
    colour = (10, 200, 30)
    arguments = (plain(600, 600), [[100, 100, 500, 500]], ["cat"])
    solid = draw_detections(*arguments, colours={"cat": colour})
    dashed = draw_detections(*arguments, colours={"cat": colour}, crowd=[True])
    edge = (slice(499, 500), slice(100, 500))
    assert (solid[edge] == colour).all()
    share = (dashed[edge] == colour).all(axis=-1).mean()
    assert 0.3 < share < 0.8
    assert (dashed[edge] == 128).all(axis=-1).mean() > 0.2, "gaps through which the picture is seen"


@pytest.mark.parametrize("trial", range(8))
def test_names_stay_inside_the_picture(trial: int) -> None:
    random = np.random.default_rng(trial)
    size = (int(random.integers(60, 700)), int(random.integers(40, 500)))
    canvas = Image.new("RGB", size)
    taken: list[tuple[int, int, int, int]] = []
    for _ in range(30):
        x0, y0 = int(random.integers(size[0])), int(random.integers(size[1]))
        corners = (x0, y0, int(random.integers(x0, size[0])), int(random.integers(y0, size[1])))
        name = "a long name " * int(random.integers(1, 9))
        taken.append(
            draw_label(ImageDraw.Draw(canvas), corners, name, " 0.99", (255, 0, 0), load_font(14), size, taken)
        )
    for left, top, right, bottom in taken:
        assert 0 <= left <= right < size[0]
        assert 0 <= top <= bottom < size[1]


def test_names_of_boxes_in_one_place_do_not_cover_each_other() -> None:
    canvas = Image.new("RGB", (600, 600))
    taken: list[tuple[int, int, int, int]] = []
    for name in ("cat", "dog", "cow", "bird"):
        corners = (200, 200, 420, 420)
        taken.append(
            draw_label(ImageDraw.Draw(canvas), corners, name, "", (255, 0, 0), load_font(14), (600, 600), taken)
        )
    covered = np.zeros((600, 600), dtype=int)
    for left, top, right, bottom in taken:
        covered[top : bottom + 1, left : right + 1] += 1
    assert covered.max() == 1


def test_boxes_past_the_border_and_without_extent_are_drawn() -> None:
    boxes = [[-50, -50, 900, 700], [10, 10, 10, 10], [599, 599, 700, 700], [30, 40, 20, 20]]
    drawn = draw_detections(plain(600, 600), boxes, ["a", "b", "c", "d"])
    assert drawn.shape == (600, 600, 3)
    assert (drawn[:2] != 128).any()


def test_masks_tint_their_pixels_alone() -> None:
    mask = np.zeros((520, 520), dtype=bool)
    mask[250:300, 250:300] = True
    drawn = draw_detections(plain(520, 520), [[200, 200, 400, 400]], ["a"], masks=[mask], colours={"a": (255, 0, 0)})
    assert drawn[275, 275, 0] > 150 > 110 > drawn[275, 275, 1]
    assert (drawn[350, 350] == 128).all()


def test_nothing_to_draw_gives_the_picture_back() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_detections(picture, np.zeros((0, 4)), []), picture)


def test_counts_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="1 boxes, but 2 labels"):
        draw_detections(plain(64, 64), [[0, 0, 9, 9]], ["a", "b"])
    with pytest.raises(ValueError, match="1 boxes, but 0 scores"):
        draw_detections(plain(64, 64), [[0, 0, 9, 9]], ["a"], [])
    with pytest.raises(ValueError, match="not a finite number"):
        draw_detections(plain(64, 64), [[0, 0, np.nan, 9]], ["a"])
    with pytest.raises(ValueError, match="a mask of shape"):
        draw_detections(plain(64, 64), [[0, 0, 9, 9]], ["a"], masks=[np.zeros((9, 9), dtype=bool)])


def test_colours_are_stable_and_distinct() -> None:
    names = [f"class {k}" for k in range(80)]
    colours = class_colours(names)
    assert colours == class_colours(names)
    assert len(set(colours.values())) == 80
    first = np.array(list(colours.values())[:8], dtype=float)
    apart = np.linalg.norm(first[:, None] - first, axis=-1) + 1e9 * np.eye(8)
    assert apart.min() > 60
    picture = plain(520, 520)
    box = [[100, 200, 300, 400]]
    np.testing.assert_array_equal(draw_detections(picture, box, ["cat"]), draw_detections(picture, box, ["cat"]))


def test_predictions_below_the_threshold_are_not_shown() -> None:
    picture = plain(128, 128)
    truth = Objects([[10, 10, 60, 60], [70, 70, 120, 120]], ["cat", "dog"], crowd=[False, True])
    weak = Objects([[10, 10, 60, 60]], ["cat"], [0.29])
    nothing = Objects(np.zeros((0, 4)), [], [])
    strong = Objects([[10, 10, 60, 60]], ["cat"], [0.3])
    pictures = [side_by_side(picture, truth, p, score_threshold=0.3, title="x.jpg") for p in (weak, nothing, strong)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[2] != pictures[1]).any()
    half = pictures[0].shape[1] // 2
    np.testing.assert_array_equal(pictures[2][:, :half], pictures[1][:, :half])


def test_names_in_other_scripts_are_written() -> None:
    """Two names whose letters a font lacked would look the same: two rows of empty boxes."""
    first, second = (
        draw_detections(plain(520, 520), [[100, 200, 300, 400]], [name], colours={name: (0, 99, 0)})
        for name in ("ёлка ≥", "мышь ≤")
    )
    assert (first[180:200, 100:200] != second[180:200, 100:200]).any()


def test_sheets_show_examples_of_each_class(tmp_path: Path) -> None:
    paths = generate_embedded(tmp_path / "data", train_images=30, val_images=1, size=96, progress=False)
    (paths.train_images / "000001.jpg").write_bytes(b"no picture")
    dataset = read_annotations(paths.train_annotations, paths.train_images)
    sheets = class_sheets(dataset, tmp_path / "sheets", per_class=5)
    assert [sheet.name for sheet in sheets] == [
        f"{k + 1:04d}_{kind.name.replace(' ', '_')}.png" for k, kind in enumerate(CLASSES)
    ]
    contents = [sheet.read_bytes() for sheet in sheets]
    for sheet in sheets:
        with Image.open(sheet) as picture:
            assert picture.mode == "RGB"
            assert picture.size == (936, 44 + 2 * 256)
    assert [p.read_bytes() for p in class_sheets(dataset, tmp_path / "again", per_class=5)] == contents
