"""The same training in both engines: one recipe in two ways of writing it, and the table of both APs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rexdet.bench import engine_runs
from rexdet.cli import execute
from rexdet.configs import get_config


def write_record(folder: Path, ap: float, status: str = "done") -> None:
    folder.mkdir(parents=True)
    numbers = {"AP": ap, "AP50": ap + 0.2, "AP75": ap - 0.1}
    (folder / "record.json").write_text(json.dumps({"status": status, "metrics": {"bbox": numbers}}))


def test_the_table_has_each_seed_and_the_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, (here, there) in enumerate([(0.5, 0.52), (0.6, 0.56)]):
        write_record(tmp_path / f"detectron2_80_seed{seed}", here)
        write_record(tmp_path / f"mmdet_80_seed{seed}", there)
    words = ["engines", "--rounds", "2", "--steps", "80", "--output", str(tmp_path), "--json"]
    assert execute("benchmark", words) == 0
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["seed 0, AP"] == {"what": "seed 0, AP", "detectron2": 50.0, "MMDetection": 52.0, "difference": 2.0}
    assert rows["mean of 2, AP"]["difference"] == -1.0
    assert rows["mean of 2, AP50"]["detectron2"] == 75.0


def test_what_is_not_done_is_run_and_a_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def refuse(words: list[str], **others: Any) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 2)

    write_record(tmp_path / "detectron2_80_seed0", 0.5, status="failed")
    monkeypatch.setattr(engine_runs.subprocess, "run", refuse)
    assert execute("benchmark", ["engines", "--steps", "80", "--output", str(tmp_path)]) == 2
    assert "detectron2 with seed 0 ended with status 2" in capsys.readouterr().err
    assert asked[0][3] == "train_det"
    assert execute("benchmark", ["engines", "--steps", "3"]) == 2


def test_the_two_configs_are_one_recipe() -> None:
    pytest.importorskip("mmengine", reason="MMDetection is not installed: make setup-mmdet")
    from mmengine.config import Config

    here = yaml.safe_load(Path(get_config(engine_runs.CONFIGS["detectron2"])).read_text())
    there = Config.fromfile(get_config(engine_runs.CONFIGS["mmdet"]))
    steps = 400
    words = engine_runs.command("mmdet", 0, steps, Path("run"))
    options = dict(word.split("=", 1) for word in words[words.index("--cfg-options") + 1 :])
    there.merge_from_dict({key: int(value) for key, value in options.items()})
    solver, model = here["SOLVER"], here["MODEL"]
    assert there.train_dataloader.batch_size == solver["IMS_PER_BATCH"]
    assert there.optim_wrapper.optimizer.type == solver["OPTIMIZER"]
    assert there.optim_wrapper.optimizer.lr == solver["BASE_LR"]
    assert there.optim_wrapper.optimizer.weight_decay == solver["WEIGHT_DECAY"]
    assert there.model.backbone.name == model["REXDET"]["NAME"]
    assert there.model.neck.out_channels == model["FPN"]["OUT_CHANNELS"]
    assert there.model.bbox_head.stacked_convs == model["RETINANET"]["NUM_CONVS"]
    assert there.train_cfg.max_iters == steps
    warm_up, cosine = there.param_scheduler
    assert (warm_up.end, cosine.begin, cosine.end, cosine.T_max) == (50, 50, steps, steps - 50)
    assert warm_up.start_factor == solver["WARMUP_FACTOR"]
    typed = engine_runs.command("detectron2", 0, steps, Path("run"))
    assert typed[-4:] == ["SOLVER.MAX_ITER", "400", "SOLVER.WARMUP_ITERS", "50"]
