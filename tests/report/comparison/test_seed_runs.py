"""`tools/compare.py` over two folders of runs that differ in their seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from rexdet.runs import Data, DataSplit, Event, Network, WeightsFile, read_record, write_record
from rexdet.runs.parts import TRAINED_WORSE, utc_now

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
    assert any("seed_1 is left out: it was killed" in note for note in content["notes"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"evaluated_weights": WeightsFile(holds="raw", selection="best", iteration=100)},
            "its weights were chosen by the images that they are scored on; selection is by validation, or the last",
        ),
        (
            {"events": [Event(time=utc_now(), code=TRAINED_WORSE, message="far less")]},
            "it learnt far less than its search's run with the same hyper-parameters: something else differed",
        ),
        ({"partial": ["3.png cannot be read"]}, "the numbers cover only a part (3.png cannot be read)"),
        (
            {"data": Data(train=DataSplit(path="train.json", limited=True))},
            "only a part of the training images was used on purpose",
        ),
    ],
)
def test_what_stands_in_no_table_is_in_no_comparison_over_seeds(
    two_folders: tuple[Path, Path], compare: Compare, changes: dict[str, Any], reason: str
) -> None:
    changed(two_folders[0] / "seed_1", **changes)
    content = json.loads(compare(*two_folders, "--json")[1])
    assert content["seeds"]["shared"] == [2, 3]
    assert f"A: seed_1 is left out: {reason}" in content["notes"]


def test_detectors_of_others_that_name_no_network_are_compared_over_seeds(
    two_folders: tuple[Path, Path], compare: Compare
) -> None:
    for folder in two_folders:
        for run in folder.iterdir():
            changed(run, network=None)
    content = json.loads(compare(*two_folders, "--json")[1])
    assert content["seeds"]["shared"] == [1, 2, 3]


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
    # What is named itself has to be sound, and so has one of a folder at least.
    (weak / "seed_0" / "record.json").write_text("[]")
    one_line(compare(weak / "seed_0", strong), "seed_0", "not a record")
    for seed in range(1, 4):
        (weak / f"seed_{seed}" / "record.json").write_text("{}")
    one_line(compare(weak, strong), "seed_0", "not a record")
    one_line(compare(strong, weak), "seed_0", "not a record")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "not a record of a run"),
        ('{"schema_version": 99, "kind": "detection", "name": "x"}', "newer"),
        ('{"schema', "JSON"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_skipped(
    two_folders: tuple[Path, Path], compare: Compare, text: str, told: str
) -> None:
    (two_folders[1] / "seed_2" / "record.json").write_text(text)
    status, out, _ = compare(*two_folders)
    assert status == 0
    (line,) = [line for line in out.splitlines() if "skipped" in line]
    assert line.startswith("- B: skipped: ")
    assert str(two_folders[1] / "seed_2") in line
    assert told in line
    assert out.index(line) < out.index("What differs")
    assert "Over 2 seeds" in out
    # Where too few are left, the reason is in the line.
    (two_folders[1] / "seed_3" / "record.json").write_text(text)
    one_line(compare(*two_folders), "share 1 seeds", "seed_2", "seed_3", told)


@pytest.mark.parametrize(
    ("engine", "config"),
    [
        ("detectron2", "MODEL:\n  REXDET:\n    WEIGHTS: {}"),
        ("detectron2", "model:\n  backbone:\n    bottom_up:\n      weights: {}"),
        ("mmdet", "model = dict(\n    init_cfg=dict(checkpoint='{}', type='Pretrained'))"),
    ],
)
def test_weights_are_told_by_their_content_and_not_by_their_place(
    saved_runs: Any, compare: Compare, engine: str, config: str
) -> None:
    for sha in ("a" * 64, "b" * 64):
        for seed in range(2):
            place = f"checkout_{seed}/x.safetensors"
            network = Network(name="rexnet_1.0", sha256=sha if seed else "a" * 64, source=place)
            saved_runs.run(
                f"{sha[0]}/s{seed}",
                saved_runs.detections(seed, 0.5),
                seed=seed,
                engine=engine,
                config=config.format(place),
                network=network,
            )
    content = json.loads(compare(*(saved_runs.folder / "a" / f"s{seed}" for seed in range(2)), "--json")[1])
    assert [entry["field"] for entry in content["differences"]] == ["seed"]
    content = json.loads(compare(*(saved_runs.folder / "b" / f"s{seed}" for seed in range(2)), "--json")[1])
    assert [entry["field"] for entry in content["differences"]][1:] == ["sha256", "source", "seed"]


@pytest.mark.parametrize("text", ["[" * 200_000, None])
def test_images_are_of_the_first_seed_whose_detections_are_sound(
    two_folders: tuple[Path, Path], compare: Compare, text: str | None
) -> None:
    damaged = two_folders[0] / "seed_1" / "detections.json"
    damaged.unlink() if text is None else damaged.write_text(text)
    status, out, _ = compare(*two_folders)
    assert status == 0
    assert "Over 3 seeds" in out
    assert "All that follows is of the runs of seed 2." in out
    (line,) = [line for line in out.splitlines() if "seed 1 are not compared" in line]
    assert "seed_1" in line
    for seed in (2, 3):
        (two_folders[0] / f"seed_{seed}" / "detections.json").unlink()
    one_line(compare(*two_folders), "seed_1")


LAZY = """\
dataloader:
  train:
    total_batch_size: {batch}
  evaluator:
    output_dir: {folder}
train:
  output_dir: {folder}
  seed: {seed}
"""
PROGRAM = """\
default_hooks = dict(
    checkpoint=dict(interval=600, out_dir='{folder}', type='CheckpointHook'))
experiment_name = 'quickstart_{folder}'
optim_wrapper = dict(
    optimizer=dict(lr={batch}))
randomness = dict(deterministic=False, seed={seed})
val_evaluator = dict(
    ann_file=
    '{folder}/annotations/instances_val2017.json',
    type='CocoMetric')
visualizer = dict(
    save_dir='{folder}', type='DetLocalVisualizer')
work_dir = '{folder}'
"""


@pytest.mark.parametrize(
    ("engine", "config", "field"),
    [("detectron2", LAZY, "dataloader.train.total_batch_size"), ("mmdet", PROGRAM, "line 5")],
)
def test_folders_and_seeds_are_no_other_setting(
    saved_runs: Any, compare: Compare, engine: str, config: str, field: str
) -> None:
    for name in "AB":
        for seed in range(2):
            saved_runs.run(
                f"{name}/s{seed}",
                saved_runs.detections(seed + 5 * (name == "B"), 0.5),
                seed=seed,
                engine=engine,
                config=config.format(folder=f"runs/{name}/s{seed}", seed=seed, batch=16 if name == "A" else 8),
            )
    folders = saved_runs.folder / "A", saved_runs.folder / "B"
    status, out, err = compare(*folders, "--json")
    assert status == 0, err
    content = json.loads(out)
    assert content["seeds"]["shared"] == [0, 1]
    assert [entry["field"] for entry in content["differences"]] == [field]
    content = json.loads(compare(folders[0] / "s0", folders[0] / "s1", "--json")[1])
    config_fields = [entry["field"] for entry in content["differences"] if entry["group"] == "config"]
    assert config_fields == (["train.seed"] if engine == "detectron2" else ["line 6"])
    # A line with the seed that says something else, too, is another setting.
    changed(folders[0] / "s1", config=config.format(folder="x", seed=1, batch=16).replace("False", "True") + "\nx: 1")
    one_line(compare(*folders), "differ in more than their seed")


def test_data_of_another_content_is_refused(saved_runs: Any, two_folders: tuple[Path, Path], compare: Compare) -> None:
    other = saved_runs.write_annotations("other.json", {**saved_runs.content, "info": {"year": 1}})
    for seed in range(2):
        saved_runs.run(f"elsewhere/{seed}", saved_runs.detections(seed, 0.5), seed=seed, annotations=other)
    one_line(compare(two_folders[0], saved_runs.folder / "elsewhere"), "different validation data")
