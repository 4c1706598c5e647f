"""A detection job: its switches, the engine that its config is written for, the processes it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rexdet import detection
from rexdet.detection import choose_engine, find_config, wants_launcher, without_launcher_switches
from rexdet.errors import UserError
from rexdet.job import DetectionJob

LAZY = "from detectron2.config import LazyCall as L\nmodel = L(dict)(a=1)\n"
MMENGINE = (
    "_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py']\ncustom_imports = dict(imports=['rexdet.mmdet'])\n"
)


@pytest.mark.parametrize(
    ("name", "text", "engine"),
    [("a.yaml", "VERSION: 2\n", "detectron2"), ("a.py", LAZY, "detectron2"), ("b.py", MMENGINE, "mmdet")],
)
def test_the_engine_is_told_by_the_file(tmp_path: Path, name: str, text: str, engine: str) -> None:
    config = tmp_path / name
    config.write_text(text)
    assert choose_engine(str(config)) == engine


def test_a_config_is_parsed_and_never_run(tmp_path: Path) -> None:
    config = tmp_path / "a.py"
    config.write_text(LAZY + f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    choose_engine(str(config))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["x = 1\n", LAZY + MMENGINE])
def test_an_ambiguous_config_is_an_error_that_names_the_switch(tmp_path: Path, text: str) -> None:
    config = tmp_path / "a.py"
    config.write_text(text)
    with pytest.raises(UserError, match="--engine"):
        choose_engine(str(config))
    assert choose_engine(str(config), "mmdet") == "mmdet"


def test_an_engine_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("VERSION: 2\n")
    with pytest.raises(UserError, match="--engine says mmdet"):
        choose_engine(str(config), "mmdet")


@pytest.mark.parametrize("typed", ["retinanet_rexnet", "retinanet_rexnet.yaml", "configs/retinanet_rexnet.yaml"])
def test_shipped_configs_are_found_from_any_folder(typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(find_config(typed)).is_file()


def test_a_config_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such config file"):
        find_config(str(tmp_path / "gone" / "a.yaml"))


@pytest.mark.parametrize(
    "switches",
    [
        {"dataset": "embedded", "data_root": "d"},
        {"data_root": "d", "train_annotations": "j", "train_images": "i"},
        {"train_annotations": "j"},
        {"train_annotations": "j", "train_images": "i"},
        {"val_annotations": "j", "val_images": "i"},
        {"resume": True, "eval_only": True},
        {"limit_train": -1},
        {"accumulate": 0},
        {"ema": 1.0},
    ],
)
def test_switches_that_contradict_each_other_are_refused(switches: dict[str, object]) -> None:
    with pytest.raises(UserError):
        DetectionJob("a.yaml", **switches).check()  # type: ignore[arg-type]


def test_launcher_switches_inside_torchrun_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun"):
        wants_launcher(DetectionJob("a.yaml", num_gpus=2))
    assert not wants_launcher(DetectionJob("a.yaml"))


def test_more_devices_than_there_are_name_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match="torchrun --nproc_per_node 2"):
        wants_launcher(DetectionJob("a.yaml", num_gpus=2))


def test_the_launched_command_has_no_launcher_switches() -> None:
    words = ["--config", "a.yaml", "--num-gpus", "2", "--dist-url=tcp://h:1", "--seed", "3", "--machine-rank", "0"]
    assert without_launcher_switches(words) == ["--config", "a.yaml", "--seed", "3"]


def test_an_engine_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'mmdet'", name="mmdet")

    monkeypatch.setattr(detection.importlib, "import_module", fail)
    with pytest.raises(UserError, match="make setup-mmdet"):
        detection.run_detection(DetectionJob(config="configs/mmdet/retinanet_rexnet.py"))


@pytest.mark.parametrize(
    ("config", "words", "message"),
    [
        ("configs/mmdet/retinanet_rexnet.py", {"overrides": ["SOLVER.MAX_ITER", "3"]}, "--cfg-options KEY=VALUE"),
        ("configs/retinanet_rexnet.yaml", {"cfg_options": ["model.neck.num_outs=5"]}, "KEY VALUE"),
    ],
)
def test_overrides_in_the_other_engines_way_are_one_line(
    config: str, words: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        detection.run_detection(DetectionJob(config=config, **words))  # type: ignore[arg-type]
