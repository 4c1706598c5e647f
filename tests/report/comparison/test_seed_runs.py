"""`tools/compare.py` over two folders of runs that differ in their seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from rexdet.runs import read_record, write_record

Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def two_folders(saved_runs: Any) -> tuple[Path, Path]:
    """Runs of seeds 0 to 3 that find half of the objects, and of seeds 1 to 4 that find more."""
    for name, found, seeds in (("weak", 0.5, range(4)), ("strong", 0.8, range(1, 5))):
        for seed in seeds:
            saved_runs.run(
                f"{name}/seed_{seed}",
                saved_runs.detections(10 * seed + (name == "weak"), found),
                seed=seed,
                name=f"{name} {seed}",
                config=f"SEED: {seed}\nMODEL:\n  DEPTH: {18 if name == 'weak' else 50}",
            )
    return saved_runs.folder / "weak", saved_runs.folder / "strong"


def aps(folder: Path, seeds: range) -> list[float]:
    return [float(read_record(folder / f"seed_{seed}").metrics["bbox"]["AP"] or 0) for seed in seeds]


def test_runs_are_paired_by_seed(two_folders: tuple[Path, Path], compare: Compare) -> None:
    status, out, _ = compare(*two_folders, "--json")
    assert status == 0
    content = json.loads(out)
    seeds = content["seeds"]
    assert (seeds["shared"], seeds["only_A"], seeds["only_B"]) == ([1, 2, 3], [0], [4])
    one, other = (aps(folder, range(1, 4)) for folder in two_folders)
    expected = stats.ttest_rel(other, one)
    difference = seeds["numbers"]["AP"]["difference"]
    assert difference["mean"] == pytest.approx(sum(other) / 3 - sum(one) / 3)
    assert difference["p_value"] == pytest.approx(expected.pvalue)
    assert (difference["low"], difference["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    assert seeds["numbers"]["AP"]["A"]["mean"] == pytest.approx(sum(one) / 3)
    assert seeds["numbers"]["APl"] == {"A": None, "B": None, "difference": None}
    # The rest is of the first shared seed.
    assert [Path(content[name]).name for name in "AB"] == ["seed_1", "seed_1"]
    assert content["numbers"]["AP"]["A"]["value"] == pytest.approx(one[0])
    text = compare(*two_folders)[1]
    assert "Over 3 seeds" in text
    assert "A alone has 0; B alone has 4" in text
    assert text.index("What differs") < text.index("Over 3 seeds") < text.index("Numbers (box")


def changed(folder: Path, **values: Any) -> None:
    write_record(folder, read_record(folder).model_copy(update=values))


def test_runs_that_are_no_result_stay_out(two_folders: tuple[Path, Path], compare: Compare) -> None:
    changed(two_folders[0] / "seed_1", status="killed")
    content = json.loads(compare(*two_folders, "--json")[1])
    assert content["seeds"]["shared"] == [2, 3]
    assert any("seed_1 is left out: killed" in note for note in content["notes"])


def one_line(said: tuple[int, str, str], *words: str) -> None:
    status, out, err = said
    assert (status, out, err.count("\n")) == (2, "", 1), said
    for word in words:
        assert word in err


def test_folders_that_cannot_be_paired(two_folders: tuple[Path, Path], compare: Compare) -> None:
    weak, strong = two_folders
    one_line(compare(weak, strong / "seed_1"), "share 1 seeds", "0, 1, 2, 3 and 1")
    changed(weak / "seed_0", seed=1)
    one_line(compare(weak, strong), "two runs have the seed 1: seed_0 and seed_1")
    changed(weak / "seed_0", seed=None)
    one_line(compare(weak, strong), "seed_0", "tells no seed")
    changed(weak / "seed_0", seed=0, config="SEED: 0\nMODEL:\n  DEPTH: 34")
    one_line(compare(weak, strong), "weak 0 and weak 1", "differ in more than their seed", "MODEL.DEPTH")
    (weak / "seed_0" / "record.json").write_text("[]")
    one_line(compare(weak, strong), "seed_0", "not a record")


def test_data_of_another_content_is_refused(saved_runs: Any, two_folders: tuple[Path, Path], compare: Compare) -> None:
    other = saved_runs.write_annotations("other.json", {**saved_runs.content, "info": {"year": 1}})
    for seed in range(2):
        saved_runs.run(f"elsewhere/{seed}", saved_runs.detections(seed, 0.5), seed=seed, annotations=other)
    one_line(compare(two_folders[0], saved_runs.folder / "elsewhere"), "different validation data")
