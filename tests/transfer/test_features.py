"""Features of a split: which they are, when they are computed, and what is on the disk when something goes wrong."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from rexdet.errors import UserError
from rexdet.transfer import feature_store, features
from rexdet.transfer.augment import Normaliser
from rexdet.transfer.datasets import open_dataset
from rexdet.transfer.features import Extractor, FeatureSet
from rexdet.transfer.framing import Framing, frame
from rexdet.transfer.images import Listing
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.pixels import PRESETS
from rexdet.zoo import create_backbone, create_model, open_checkpoint

NAME = "resnet20_cifar"
FRAMING = Framing("whole", 16, 16)


@pytest.fixture
def listing(colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listing:
    """60 images of three classes."""
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "cache"))
    return open_dataset("folder", colours).train_and_val()


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return open_checkpoint(create_model(NAME).state_dict(), pixels="half")


def extractor(checkpoint: Checkpoint | None, **options: object) -> Extractor:
    return Extractor(NAME, checkpoint, framing=FRAMING, **options)  # type: ignore[arg-type]


def images_of(listing: Listing) -> torch.Tensor:
    return Normaliser(PRESETS["half"])(torch.stack([frame(file.pixels(), FRAMING) for file in listing.files]))


@pytest.mark.parametrize("backend", ["plain", "eager", "auto"])
def test_penultimate_is_what_the_classifier_reads(listing: Listing, checkpoint: Checkpoint, backend: str) -> None:
    found = extractor(checkpoint, backend=backend).extract(listing)
    network = create_model(NAME, weights=checkpoint).eval()
    with torch.no_grad():
        logits = network(images_of(listing))
        ours = network.head(found.tensor())  # type: ignore[operator]
    assert found.features.shape == (60, 64)
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    assert found.labels.tolist() == listing.labels.tolist()
    assert found.names[0] == listing.files[0].name


@pytest.mark.parametrize("tap", ["res2", "res3"])
def test_a_tap_is_its_map_averaged(listing: Listing, checkpoint: Checkpoint, tap: str) -> None:
    taps = create_model(NAME).features
    if tap not in taps:
        pytest.skip(f"{NAME} has no {tap}")
    found = extractor(checkpoint, tap=tap).extract(listing)
    with torch.no_grad():
        map_ = create_backbone(NAME, [tap], weights=checkpoint).eval()(images_of(listing))[tap]
    torch.testing.assert_close(found.tensor(), map_.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_batches_change_nothing(listing: Listing, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = extractor(checkpoint, batch_size=256).extract(listing)
    monkeypatch.setattr(features, "BLOCK", 13)
    parts = extractor(checkpoint, batch_size=5).extract(listing)
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-5, atol=1e-6)


def test_computed_once_and_then_opened(
    listing: Listing, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extractor(checkpoint).extract(listing, tmp_path)

    def never(*_: object, **__: object) -> torch.nn.Module:
        raise AssertionError("a network was built")

    monkeypatch.setattr(features, "tapped_network", never)
    second = extractor(checkpoint).extract(listing, tmp_path)
    assert (first.was_kept, second.was_kept) == (False, True)
    assert isinstance(second.features, np.memmap)
    np.testing.assert_array_equal(first.features, second.features)
    assert [path.name for path in tmp_path.glob("*.npy")] == [f"{first.key}.npy"]
    assert not list(tmp_path.glob("*.parts"))


def test_the_key_is_of_everything_that_features_hang_on(listing: Listing, checkpoint: Checkpoint) -> None:
    torch.manual_seed(1)
    other = open_checkpoint(create_model(NAME).state_dict(), pixels="half")
    keys = {
        extractor(checkpoint).key(listing),
        extractor(other).key(listing),
        extractor(None).key(listing),
        extractor(None, seed=1).key(listing),
        extractor(checkpoint, tap="res3").key(listing),
        extractor(checkpoint, dtype=torch.bfloat16).key(listing),
        extractor(checkpoint, pixels=PRESETS["imagenet"]).key(listing),
        Extractor(NAME, checkpoint, framing=Framing("centre", 16, 16)).key(listing),
        Extractor(f"nm2:1/{NAME}", checkpoint, framing=FRAMING).key(listing),
        extractor(checkpoint).key(listing.subset(range(59), "train")),
        # Another back end differs in the last bits.
        extractor(checkpoint, backend="plain").key(listing),
    }
    assert len(keys) == 11
    # What changes only the speed changes no key.
    assert extractor(checkpoint, batch_size=3).key(listing) in keys


def test_a_stopped_extraction_goes_on_at_its_block(
    listing: Listing, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BLOCK", 16)
    whole = extractor(checkpoint).extract(listing)
    save, saved = feature_store.FeatureStore.save, []

    def interrupted(store: feature_store.FeatureStore, part: int, rows: np.ndarray) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(part)
        save(store, part, rows)

    asked: list[int] = []
    function = Extractor._function
    monkeypatch.setattr(Extractor, "_function", lambda self, images: asked.append(images) or function(self, images))
    monkeypatch.setattr(feature_store.FeatureStore, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extractor(checkpoint).extract(listing, tmp_path)
    assert not list(tmp_path.glob("*.npy"))
    monkeypatch.setattr(feature_store.FeatureStore, "save", save)
    decoded: list[int] = []
    count = features._Decoder._one
    monkeypatch.setattr(features._Decoder, "_one", lambda self, place: decoded.append(place) or count(self, place))
    found = extractor(checkpoint).extract(listing, tmp_path)
    assert sorted(decoded) == list(range(32, 60))
    # The back end is chosen by the whole listing, so that the rest is computed as the beginning was.
    assert asked == [60, 60]
    np.testing.assert_array_equal(found.features, whole.features)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"not an array", b"PK\x03\x04 no archive", "cut"])
def test_a_damaged_file_is_computed_anew(
    listing: Listing, checkpoint: Checkpoint, tmp_path: Path, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    first = extractor(checkpoint).extract(listing, tmp_path)
    expected = np.array(first.features)
    path = tmp_path / f"{first.key}.npy"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-1000] if isinstance(damage, str) else damage)
    again = extractor(checkpoint).extract(listing, tmp_path)
    assert "computed anew" in caplog.text
    np.testing.assert_array_equal(again.features, expected)


def test_two_runs_that_need_the_same_features_compute_them_once(
    listing: Listing, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    count = features._Decoder._one
    monkeypatch.setattr(features._Decoder, "_one", lambda self, place: decoded.append(place) or count(self, place))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(extractor(checkpoint).extract, listing, tmp_path) for _ in range(2)]
        one, other = (job.result(timeout=120) for job in jobs)
    assert sorted(decoded) == list(range(60))
    assert sorted([one.was_kept, other.was_kept]) == [False, True]
    np.testing.assert_array_equal(one.features, other.features)


def test_a_cache_that_is_a_file_is_one_line(listing: Listing, checkpoint: Checkpoint, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="the features cannot be kept there"):
        extractor(checkpoint).extract(listing, blocked / "features")


def test_features_that_are_not_finite_are_refused_with_the_image(listing: Listing, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = create_model(NAME).state_dict()
    # Finite weights whose products are not.
    state = {key: value * 1e30 if value.is_floating_point() else value for key, value in state.items()}
    found = extractor(open_checkpoint(state, pixels="half"))
    with pytest.raises(UserError, match="features of 60 images are not finite") as raised:
        found.extract(listing, tmp_path)
    assert listing.files[0].where in str(raised.value)
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize("place", ["a part", "the whole"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(
    listing: Listing, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if place == "a part":
        monkeypatch.setattr(feature_store, "write_bytes_atomically", full)
    else:
        monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(UserError, match="No space left on device") as raised:
        extractor(checkpoint).extract(listing, tmp_path / "kept")
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "kept") in str(raised.value)
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.suffix == ".partial"]
    assert not list((tmp_path / "kept").glob("*.npy"))


def test_an_image_that_cannot_be_read_is_named(
    listing: Listing, checkpoint: Checkpoint, tmp_path: Path, colours: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    from dataclasses import replace

    from rexdet.transfer.images import StoredImage

    files = (*listing.files[:-1], StoredImage("broken.png", str(broken)))
    with pytest.raises(UserError, match=r"broken\.png"):
        extractor(checkpoint).extract(replace(listing, files=files))


def test_bad_arguments_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UserError, match="no tap 'res9'"):
        extractor(checkpoint, tap="res9")
    with pytest.raises(UserError, match="batch size"):
        extractor(checkpoint, batch_size=0)


def test_sets_are_joined_in_order() -> None:
    one = FeatureSet(np.zeros((2, 3), np.float32), torch.tensor([0, 1]), ("a", "b"), ("x", "y"))
    other = FeatureSet(np.ones((1, 3), np.float32), torch.tensor([1]), ("a", "b"), ("z",))
    joined = one.joined(other)
    assert joined.features[:, 0].tolist() == [0, 0, 1]
    assert (joined.labels.tolist(), joined.names) == ([0, 1, 1], ("x", "y", "z"))
    with pytest.raises(ValueError, match="different classes"):
        one.joined(FeatureSet(other.features, other.labels, ("a", "c")))


def test_bfloat16_is_near(listing: Listing, checkpoint: Checkpoint) -> None:
    exact = extractor(checkpoint).extract(listing)
    rough = extractor(checkpoint, dtype=torch.bfloat16).extract(listing)
    assert rough.features.dtype == np.float32
    assert np.abs(rough.features - exact.features).max() < 0.05 * np.abs(exact.features).max()
