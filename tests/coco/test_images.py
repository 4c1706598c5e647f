"""One rule for every kind of image file: RGB, the same brightness, never silently grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from rexdet.coco.images import ImageSizeDiffers, UnreadableImage, load_image
from rexdet.errors import UserError


@pytest.fixture
def pixels() -> npt.NDArray[np.uint8]:
    """A smooth RGB picture, uint8 (48, 64, 3), that JPEG keeps closely."""
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([x * 4, y * 5, 255 - x * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tiff", "webp"])
def test_lossless_rgb_is_read_as_it_is(tmp_path: Path, pixels: Any, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if kind == "webp" else {}))
    image = load_image(path)
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert image.flags["WRITEABLE"]
    assert (image == pixels).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_mode_keep_their_brightness(tmp_path: Path, pixels: Any, mode: str) -> None:
    # C37; a CMYK picture that is inverted would be far off.
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.jpg", quality=95)
    expected = np.asarray(Image.fromarray(pixels).convert(mode).convert("RGB")).astype(int)
    image = load_image(tmp_path / "a.jpg")
    assert image.shape == (48, 64, 3)
    assert np.abs(image - expected).mean() < 4


def test_cmyk_is_not_inverted_with_or_without_adobes_marker(tmp_path: Path, pixels: Any) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).convert("CMYK").save(path, quality=95)
    data = path.read_bytes()
    marker = data.index(b"\xff\xee")
    length = int.from_bytes(data[marker + 2 : marker + 4], "big")
    assert data[marker + 4 : marker + 9] == b"Adobe"
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(data[:marker] + data[marker + 2 + length :])
    for file in (path, plain):
        assert np.abs(load_image(file).astype(int) - pixels).mean() < 4


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 200]], np.float32), [0, 100, 200]),
    ],
)
def test_modes_without_a_range(tmp_path: Path, values: Any, expected: list[int]) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert load_image(tmp_path / "a.tiff")[0, :, 0].tolist() == expected


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    values = np.zeros((1, 3, 4), np.uint8)
    values[0] = [[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png")[0].tolist() == [[200, 0, 0], [255, 255, 255], [127, 127, 127]]
    Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert load_image(tmp_path / "la.png")[0].tolist() == [[10, 10, 10], [255, 255, 255]]


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    picture.save(tmp_path / "p.png")
    assert load_image(tmp_path / "p.png")[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    picture.save(tmp_path / "t.png", transparency=1)
    assert load_image(tmp_path / "t.png")[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    picture.save(tmp_path / "a.gif")
    assert load_image(tmp_path / "a.gif").shape == (1, 2, 3)


def test_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png")[0, :, 0].tolist() == [255, 0]


# --- EXIF -------------------------------------------------------------------------------------------------------


def _turned_file(folder: Path, pixels: Any, orientation: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "a.png", exif=exif)
    return folder / "a.png"


def test_the_declared_size_decides_about_turning(tmp_path: Path, pixels: Any) -> None:
    path = _turned_file(tmp_path, pixels, 6)
    upright = np.rot90(pixels, -1)
    assert (load_image(path, (64, 48)) == pixels).all()
    assert (load_image(path, (48, 64)) == upright).all()
    # Nothing declared (pictures to predict on): as a viewer shows it.
    assert (load_image(path) == upright).all()
    assert (load_image(path, (0, 0)) == upright).all()


def test_half_turns_cannot_be_told_by_the_size_and_are_not_applied(tmp_path: Path, pixels: Any) -> None:
    path = _turned_file(tmp_path, pixels, 3)
    assert (load_image(path, (64, 48)) == pixels).all()
    assert (load_image(path) == pixels[::-1, ::-1]).all()


def test_another_size_than_declared_is_one_line(tmp_path: Path, pixels: Any) -> None:
    path = _turned_file(tmp_path, pixels, 6)
    with pytest.raises(ImageSizeDiffers, match="the picture is 64x48, declared is 50x48") as caught:
        load_image(path, (50, 48))
    assert str(path) in str(caught.value)


# --- files that are no images -----------------------------------------------------------------------------------


def _broken(folder: Path, pixels: Any, kind: str) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    name = "a.png" if kind == "half a PNG" else "a.jpg"
    Image.fromarray(noise).save(folder / name)
    data = (folder / name).read_bytes()
    content = {
        "half a JPEG": data[: len(data) // 2],
        "half a PNG": data[: len(data) // 2],
        "a JPEG without its last bytes": data[:-400],
        "nothing": b"",
        "a web page": b"  <!DOCTYPE html><html><body>404</body></html>",
        "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        "noise": bytes(range(256)),
    }[kind]
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("half a JPEG", "truncated"),
        ("half a PNG", "truncated"),
        ("a JPEG without its last bytes", "truncated"),
        ("nothing", "empty"),
        ("a web page", "web page"),
        ("a pointer", "Git LFS pointer"),
        ("noise", "cannot identify"),
    ],
)
def test_files_that_are_no_images_are_named(tmp_path: Path, pixels: Any, kind: str, part: str) -> None:
    # C37: never silently grey.
    path = _broken(tmp_path, pixels, kind)
    with pytest.raises(UnreadableImage) as caught:
        load_image(path)
    assert isinstance(caught.value, UserError)
    message = str(caught.value)
    assert str(path) in message
    assert part in message
    assert "\n" not in message


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no such image file"):
        load_image(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImage):
        load_image(tmp_path)


def test_a_broken_exif_block_does_not_spoil_whole_pixels(tmp_path: Path, pixels: Any) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert (load_image(tmp_path / "a.png") == pixels).all()
