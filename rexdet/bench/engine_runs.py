"""The same small training in both engines: data, network, start, schedule and seeds alike, both APs side by side."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rexdet.configs import get_config
from rexdet.errors import UserError

# Each engine's shipped config of the one recipe.
CONFIGS = {"detectron2": "quickstart", "mmdet": "mmdet/quickstart"}
# Both start from the backbone that the quickstart starts from.
WEIGHTS = Path(__file__).parents[1] / "zoo" / "files" / "quickstart_backbone.safetensors"
WARM_UP_SHARE = 8
KEYS = ("AP", "AP50", "AP75")


def run(output: Path, *, seeds: int = 1, steps: int = 600) -> list[dict[str, Any]]:
    """Train RetinaNet over ReXNet on the embedded set in both engines; a row a seed and key, and their means.

    output: folder of the runs; one that is done there already is read instead of trained again.
    Raises UserError where a run fails.
    """
    if steps < WARM_UP_SHARE:
        raise UserError(f"--steps is {steps}", fix=f"give at least {WARM_UP_SHARE}")
    found: dict[tuple[str, int], dict[str, Any]] = {}
    runs = [(engine, seed) for seed in range(seeds) for engine in CONFIGS]
    for engine, seed in tqdm(runs, desc="runs", unit="run", leave=False):
        found[engine, seed] = _numbers_of(engine, seed, steps, output / f"{engine}_{steps}_seed{seed}")
    rows = [
        _row(f"seed {seed}, {key}", [found[engine, seed][key] for engine in CONFIGS])
        for seed in range(seeds)
        for key in KEYS
    ]
    if seeds > 1:
        means = {
            key: [statistics.fmean(found[engine, seed][key] for seed in range(seeds)) for engine in CONFIGS]
            for key in KEYS
        }
        rows += [_row(f"mean of {seeds}, {key}", values) for key, values in means.items()]
    return rows


def command(engine: str, seed: int, steps: int, folder: Path) -> list[str]:
    """The words of `train_det` for a run; the same schedule in each engine's own keys."""
    words = [
        "--config",
        get_config(CONFIGS[engine]),
        "--engine",
        engine,
        "--weights",
        str(WEIGHTS),
        "--dataset",
        "embedded",
    ]
    words += ["--seed", str(seed), "--output", str(folder)]
    warm_up = steps // WARM_UP_SHARE
    if engine == "detectron2":
        return [*words, "SOLVER.MAX_ITER", str(steps), "SOLVER.WARMUP_ITERS", str(warm_up)]
    return [
        *words,
        "--cfg-options",
        f"train_cfg.max_iters={steps}",
        f"train_cfg.val_interval={steps}",
        f"param_scheduler.0.end={warm_up}",
        f"param_scheduler.1.begin={warm_up}",
        f"param_scheduler.1.end={steps}",
        f"param_scheduler.1.T_max={steps - warm_up}",
    ]


def _numbers_of(engine: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    record = _record(folder)
    if record is None:
        # A process for each run: neither engine's registries and loggers meet the other's.
        words = [sys.executable, "-m", "rexdet.cli", "train_det", *command(engine, seed, steps, folder)]
        done = subprocess.run(words, stdout=sys.stderr)
        record = _record(folder)
        if done.returncode != 0 or record is None:
            raise UserError(f"the run of {engine} with seed {seed} ended with status {done.returncode}", str(folder))
    numbers: dict[str, Any] = record["metrics"]["bbox"]
    return numbers


def _record(folder: Path) -> dict[str, Any] | None:
    """The record of a run that is done, None where there is none."""
    path = folder / "record.json"
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    return record if record["status"] == "done" else None


def _row(what: str, values: list[float]) -> dict[str, Any]:
    here, there = (100 * value for value in values)
    return {
        "what": what,
        "detectron2": round(here, 2),
        "MMDetection": round(there, 2),
        "difference": round(there - here, 2),
    }
