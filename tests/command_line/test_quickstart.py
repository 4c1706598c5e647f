"""The quickstart's command: which job it hands over, and that its config fits the embedded data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rexdet.cli import build_parser, execute, quickstart
from rexdet.coco.scenes import CLASSES
from rexdet.configs import get_config
from rexdet.detection import DetectionJob


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[DetectionJob]:
    """The jobs that the command hands over instead of running them, in an empty working folder."""
    taken: list[DetectionJob] = []

    def take(job: DetectionJob) -> int:
        taken.append(job)
        return 0

    monkeypatch.setattr(quickstart, "run_detection", take)
    monkeypatch.chdir(tmp_path)
    return taken


def test_it_runs_the_shipped_config_on_the_embedded_data(
    jobs: list[DetectionJob], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute("quickstart", []) == 0
    (job,) = jobs
    assert (job.config, job.dataset, job.seed, job.weights) == ("quickstart", "embedded", 0, str(quickstart.WEIGHTS))
    assert job.output == "output/quickstart"
    assert "done in" in capsys.readouterr().out


def test_random_weights_are_one_flag_away(jobs: list[DetectionJob]) -> None:
    execute("quickstart", ["--from-scratch"])
    execute("quickstart", [])
    scratch, ours = jobs
    assert scratch.weights == ""
    assert "--weights" not in scratch.command
    assert build_parser("train_det").parse_args(ours.command).weights == ours.weights


def test_a_second_run_takes_the_next_free_folder(jobs: list[DetectionJob]) -> None:
    Path("output/quickstart").mkdir(parents=True)
    Path("output/quickstart-2").mkdir()
    execute("quickstart", [])
    assert jobs[0].output == "output/quickstart-3"


def test_what_is_typed_reaches_the_job_and_the_record(jobs: list[DetectionJob]) -> None:
    execute("quickstart", ["--output", "here", "--seed", "7", "SOLVER.MAX_ITER", "5"])
    (job,) = jobs
    assert (job.output, job.seed, job.overrides) == ("here", 7, ["SOLVER.MAX_ITER", "5"])
    parsed = build_parser("train_det").parse_args(job.command)
    assert (parsed.config, parsed.dataset, parsed.output) == (job.config, job.dataset, job.output)
    assert (parsed.seed, parsed.overrides) == (job.seed, job.overrides)


def test_the_config_fits_the_data() -> None:
    config = yaml.safe_load(Path(get_config("quickstart")).read_text(encoding="utf-8"))
    assert config["MODEL"]["RETINANET"]["NUM_CLASSES"] == len(CLASSES)
    assert config["MODEL"]["REXDET"].get("WEIGHTS", "") == ""
    assert "@" not in config["MODEL"]["REXDET"]["NAME"], "it starts from random weights"
    assert config["INPUT"]["MIN_SIZE_TRAIN"] == [config["INPUT"]["MIN_SIZE_TEST"]] == [128]
    assert config["SOLVER"]["WARMUP_ITERS"] < config["SOLVER"]["MAX_ITER"]
