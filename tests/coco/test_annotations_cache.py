"""The cache of columns: found again, never stale, never broken, shared between processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rexdet.coco import annotations as reader
from rexdet.coco import index_cache, picture_facts, source
from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.index_cache import IndexCache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache folder."""
    return tmp_path / "cache"


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that have been parsed, in order."""
    seen: list[Path] = []
    parse = source.parse

    def counted(data: bytes, path: Path, **options: Any) -> Any:
        seen.append(path)
        return parse(data, path, **options)

    monkeypatch.setattr(source, "parse", counted)
    return seen


def _age(path: Path) -> None:
    """Give a file or folder times long past, so that it counts as settled."""
    past = time.time_ns() - 10**13 + 1
    os.utime(path, ns=(past, past))


def _content(dataset: CocoDataset) -> Any:
    return dataset.to_coco(), dataset.findings, dataset.fingerprint, dataset.categories


def test_a_second_opening_parses_nothing_and_gives_the_same(small_set: Any, cache: Path, parses: list[Path]) -> None:
    small_set.content["annotations"][0] |= {
        "segmentation": [[10, 10, 30, 10, 30, 30]],
        "bbox": [-3, 10, 20, 20],
    }
    path = small_set.write()
    plain = read_annotations(path, small_set.images, cache=False)
    first = read_annotations(path, small_set.images, cache=cache)
    second = read_annotations(path, small_set.images, cache=cache)
    assert _content(plain) == _content(first) == _content(second)
    assert len(parses) == 2
    assert isinstance(second.boxes.base, np.memmap) or isinstance(second.boxes, np.memmap)


def test_the_same_content_elsewhere_shares_its_columns(small_set: Any, cache: Path, parses: list[Path]) -> None:
    path = small_set.write()
    read_annotations(path, cache=cache)
    copy = shutil.copy(path, path.with_name("copy.json"))
    assert read_annotations(copy, cache=cache).path == Path(copy)
    assert len(parses) == 1
    # Findings name the file that was opened.
    assert all(finding.file == str(copy) for finding in read_annotations(copy, cache=cache).findings)


def test_training_and_evaluation_keep_their_own_views(small_set: Any, cache: Path) -> None:
    small_set.content["annotations"][0]["bbox"] = [-3, 10, 20, 20]
    path = small_set.write()
    for _ in range(2):
        assert read_annotations(path, small_set.images, cache=cache).annotations(0)[0].bbox == (0, 10, 17, 20)
        stands = read_annotations(path, small_set.images, purpose="evaluate", cache=cache)
        assert stands.annotations(0)[0].bbox == (-3, 10, 20, 20)


def test_a_changed_file_is_read_anew_even_with_old_size_and_time(small_set: Any, cache: Path) -> None:
    path = small_set.write()
    _age(path)
    assert read_annotations(path, cache=cache).categories[0].name == "cat"
    state = path.stat()
    path.write_text(path.read_text().replace('"cat"', '"dog"'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    # The change time cannot be set back.
    assert read_annotations(path, cache=cache).categories[0].name == "dog"


def test_a_file_that_changes_within_the_clocks_grain_is_hashed_again(small_set: Any, cache: Path) -> None:
    path = small_set.write()
    read_annotations(path, cache=cache)
    # It was written an instant ago, so that its state proves nothing yet.
    assert IndexCache(cache).known_digest(path) is None


def test_a_settled_file_is_known_by_its_state(small_set: Any, cache: Path) -> None:
    path = small_set.write()
    store = IndexCache(cache)
    store.remember_digest(path, path.stat(), "ab" * 32, path.stat().st_ctime_ns + 10**10)
    assert store.known_digest(path) == "ab" * 32
    path.write_text(path.read_text() + " ")
    assert store.known_digest(path) is None
    assert store.known_digest(path.with_name("absent.json")) is None


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "absent", "facts", "facts of another kind", "array of another kind"]
)
def test_a_broken_entry_is_made_anew(small_set: Any, cache: Path, damage: str) -> None:
    path = small_set.write()
    expected = _content(read_annotations(path, small_set.images, cache=cache))
    (entry,) = (cache / index_cache.FORMAT / "tables").iterdir()
    boxes, facts = entry / "boxes.npy", entry / "facts.json"
    data = bytearray(boxes.read_bytes())
    if damage == "cut":
        boxes.write_bytes(data[:-9])
    elif damage == "flipped":
        data[-3] ^= 1
        boxes.write_bytes(data)
    elif damage == "absent":
        boxes.unlink()
    elif damage == "facts":
        facts.write_text(facts.read_text()[:-20])
    elif damage == "facts of another kind":
        facts.write_text("[]")
    else:
        np.save(boxes, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert _content(read_annotations(path, small_set.images, cache=cache)) == expected
    assert index_cache.load_entry(entry) is not None


def test_new_files_in_the_folder_are_noticed(small_set: Any, cache: Path) -> None:
    (small_set.images / "2.jpg").unlink()
    path = small_set.write()
    _age(small_set.images)
    assert read_annotations(path, small_set.images, cache=cache).findings[0].code == "image-missing"
    small_set.picture("2.jpg")
    read_annotations(path, small_set.images, cache=cache).raise_if_refused()


def test_removed_files_are_noticed(small_set: Any, cache: Path) -> None:
    path = small_set.write()
    _age(small_set.images)
    read_annotations(path, small_set.images, cache=cache).raise_if_refused()
    (small_set.images / "2.jpg").unlink()
    assert read_annotations(path, small_set.images, cache=cache).findings[0].code == "image-missing"


def test_an_unreadable_file_that_is_replaced_in_place_is_noticed(small_set: Any, cache: Path) -> None:
    whole = (small_set.images / "2.jpg").read_bytes()
    (small_set.images / "2.jpg").write_bytes(b"<html>")
    path = small_set.write()
    _age(small_set.images)
    for _ in range(2):
        assert read_annotations(path, small_set.images, cache=cache).unreadable.tolist() == [False, True]
    (small_set.images / "2.jpg").write_bytes(whole)
    _age(small_set.images)
    assert not read_annotations(path, small_set.images, cache=cache).unreadable.any()


def test_a_settled_folder_is_not_looked_at_again_except_to_check(
    small_set: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_set.write()
    _age(small_set.images)
    read_annotations(path, small_set.images, cache=cache)
    looked: list[str] = []
    monkeypatch.setattr(picture_facts, "read_headers", _recorded(picture_facts.read_headers, looked))
    read_annotations(path, small_set.images, cache=cache)
    assert looked == []
    read_annotations(path, small_set.images, purpose="check", cache=cache)
    assert looked == ["look"]


def _recorded(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        calls.append("look")
        return function(*arguments)

    return call


def test_small_files_leave_no_trace_and_large_ones_go_where_the_variable_says(
    small_set: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REXDET_CACHE", str(tmp_path / "own"))
    small_set.open()
    assert not (tmp_path / "own").exists()
    monkeypatch.setattr(reader, "SMALLEST_CACHED", 1)
    small_set.open()
    assert (tmp_path / "own" / "annotations" / index_cache.FORMAT / "tables").is_dir()
    assert index_cache.default_folder() == tmp_path / "own" / "annotations"
    monkeypatch.delenv("REXDET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert index_cache.default_folder() == tmp_path / "xdg" / "rexdet" / "annotations"


def test_a_cache_that_cannot_be_written_is_a_warning(small_set: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="REXDET_CACHE"):
        dataset = read_annotations(small_set.write(), small_set.images, cache=tmp_path / "file" / "cache")
    assert len(dataset) == 2


def test_old_entries_go_and_recent_ones_stay(
    cache: Path, new_small_set: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cache, "KEPT_ENTRIES", 2)
    for number in range(4):
        small = new_small_set(f"set{number}")
        small.content["categories"][0]["name"] = f"c{number}"
        read_annotations(small.write(), cache=cache)
        for entry in (cache / index_cache.FORMAT / "tables").iterdir():
            os.utime(entry, ns=(entry.stat().st_mtime_ns - 10**9,) * 2)
    tables = list((cache / index_cache.FORMAT / "tables").iterdir())
    names = {json.loads((entry / "facts.json").read_text())["categories"][0][1] for entry in tables}
    assert names == {"c2", "c3"}


# --- several processes ------------------------------------------------------------------------------------------


def test_a_cached_data_set_is_sent_as_a_reference(small_set: Any, cache: Path) -> None:
    small_set.content["annotations"] += [small_set.annotation(number) for number in range(3, 20_000)]
    dataset = read_annotations(small_set.write(), small_set.images, cache=cache)
    sent = pickle.dumps(dataset)
    assert len(sent) < 2000
    assert _content(pickle.loads(sent)) == _content(dataset)
    # Where the entry is gone meanwhile, the file is read.
    shutil.rmtree(cache)
    assert _content(pickle.loads(sent)) == _content(dataset)


def test_an_uncached_data_set_can_be_sent_too(small_set: Any) -> None:
    dataset = small_set.open()
    assert _content(pickle.loads(pickle.dumps(dataset))) == _content(dataset)


def _open_many(arguments: tuple[Path, Path, Path]) -> tuple[int, int]:
    path, images, cache = arguments
    dataset = read_annotations(path, images, cache=cache)
    return len(dataset), dataset.annotation_count


def test_processes_that_open_a_file_at_once_do_not_disturb_each_other(small_set: Any, cache: Path) -> None:
    small_set.content["annotations"] += [small_set.annotation(number) for number in range(3, 3000)]
    path = small_set.write()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        results = pool.map(_open_many, [(path, small_set.images, cache)] * 12, chunksize=1)
    assert set(results) == {(2, 2999)}
    left = [entry.name for kind in ("tables", "views") for entry in (cache / index_cache.FORMAT / kind).iterdir()]
    assert not [name for name in left if name.startswith(".partial")]
    assert len(left) == 2


def test_an_entry_that_another_process_replaces_while_it_is_read_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = index_cache.IndexCache(cache)
    place = entries.store("tables", "key", {"column": np.arange(3)}, {})
    assert place is not None

    def replaced(*_: object) -> Any:
        monkeypatch.undo()
        assert entries.store("tables", "key", {"column": np.arange(4)}, {}) == place
        raise FileNotFoundError("what was there lies elsewhere now")

    monkeypatch.setattr(index_cache, "_load_array", replaced)
    assert index_cache.load_entry(place) is None
    found = index_cache.load_entry(place)
    assert found is not None
    assert found[0]["column"].tolist() == [0, 1, 2, 3]


def test_no_object_an_annotation_is_kept(small_set: Any, cache: Path) -> None:
    # C56: what a worker touches are arrays, whose pages stay shared; objects would be copied by being counted.
    small_set.content["annotations"] += [small_set.annotation(number) for number in range(3, 5000)]
    for options in ({"cache": cache}, {"cache": False}):
        dataset = read_annotations(small_set.write(), small_set.images, **options)
        columns = [*dataset._table.arrays().values(), *dataset._view.arrays().values()]
        assert all(isinstance(column, np.ndarray) and column.dtype != object for column in columns)
