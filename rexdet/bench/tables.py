"""How long the tables of many records take: whole processes of tools/summarize.py over one made-up ledger.

The records are like those of real runs in what decides: eight networks of the zoo from checkpoints and from random
weights, three detectors on 80 classes, ten data sets under three protocols, as many seeds as it takes.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rexdet.bench.processes import time_command, time_in_turn
from rexdet.errors import UserError
from rexdet.runs import COCO_KEYS, RunRecord

RECORDS = 10_000
# What is asked for, and the words for it; {folder} is where it may write.
WAYS = {
    "tables in the terminal": (),
    "and the page": ("--html", "{folder}/page.html"),
    "page, Markdown, LaTeX, CSV": ("--output", "{folder}/tables"),
}
_NETWORKS = (
    "rexnet_0.9", "rexnet_1.0", "rexnet_1.3", "rexnet_2.0", "resnet18", "resnet50", "resnet101", "resnext50_32x4d",
)  # fmt: skip
_DETECTORS = ("RetinaNet", "GeneralizedRCNN", "FCOS")
_DATASETS = ("aircraft", "birdsnap", "caltech101", "cars", "cifar10", "cub", "dtd", "flowers102", "food101", "pets")
_PROTOCOLS = ("fine_tune", "linear_probe", "scratch")
_CLASSES = tuple(f"class {number:02}" for number in range(80))
_BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
# As long as a detector's resolved configuration is; what the tables read of it stands at its head.
_REST_OF_CONFIG = "\n".join(
    f"SECTION_{section}:\n" + "\n".join(f"  SETTING_{line}: {section + line / 10}" for line in range(9))
    for section in range(25)
)


def run(records: int = RECORDS, rounds: int = 3, *, progress: bool = True) -> list[dict[str, Any]]:
    """A row for each of WAYS: what, how many records of how many megabytes, seconds and processor seconds (medians).

    The ways take turns. Raises UserError for less than one record, and where a system does not tell processor time.
    """
    if records < 1:
        raise UserError(f"--records is {records}", fix="give a number of at least 1")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        lines = [f"{record.model_dump_json()}\n" for record in make_records(records)]
        ledger.write_text("".join(lines[:1]))
        # Not counted: from then on the compiled modules lie on the disk, as where the command was called before.
        time_command(["summarize", str(ledger), "--output", f"{folder}/tables"], Path(folder))
        ledger.write_text("".join(lines))
        ways = {
            what: ["summarize", str(ledger), *(word.format(folder=folder) for word in words)]
            for what, words in WAYS.items()
        }
        found = time_in_turn(ways, rounds, Path(folder), progress=progress)
        megabytes = ledger.stat().st_size / 1e6
    return [
        {
            "what": what,
            "records": records,
            "MB": round(megabytes, 1),
            "seconds": round(taken.seconds, 2),
            "processor seconds": round(taken.processor_seconds, 2),
        }
        for what, taken in found.items()
    ]


def make_records(count: int) -> Iterator[RunRecord]:
    """Records of runs that are done, the same every time: one of detection for three of transfer."""
    chance = random.Random(0)
    detection = [
        (network, start, detector) for detector in _DETECTORS for network in _NETWORKS for start in (True, False)
    ]
    transfer = [
        (network, dataset, protocol) for protocol in _PROTOCOLS for dataset in _DATASETS for network in _NETWORKS
    ]
    for number in range(count):
        if number % 4 == 0:
            seed, cell = divmod(number // 4, len(detection))
            yield _record(number, seed, _detection(*detection[cell], chance))
        else:
            seed, place = divmod(number - number // 4 - 1, len(transfer))
            yield _record(number, seed, _transfer(*transfer[place], seed, chance))


def _record(number: int, seed: int, parts: dict[str, Any]) -> RunRecord:
    began = _BEGAN + timedelta(seconds=number)
    common = {
        "name": f"{parts['kind']}-{number}",
        "status": "done",
        "created": began,
        "updated": began + timedelta(hours=3),
        "finished": began + timedelta(hours=3),
        "seed": seed,
        "command": ["tools/run.py", "--output", f"output/{number}", "--seed", str(seed)],
        "evaluated_weights": {"holds": "raw", "selection": "last", "iteration": 9_000},
        "wall_time_s": 10_800.0,
        "images_per_second": 41.5,
        "time_share": {"data": 0.1, "backbone": 0.5, "neck_and_heads": 0.3, "evaluation": 0.05, "other": 0.05},
        "peak_memory": {"host": 4 * 2**30, "accelerator": 9 * 2**30},
        "versions": {"python": "3.11.7", "rexdet": "0.1.0", "torch": "2.11.0", "numpy": "2.3.1", "pillow": "12.0.0"},
        "hardware": {"platform": "Linux 6.1 x86_64", "processor": "made up", "usable_cpus": 16, "memory": 2**37},
        "process": {"pid": 1_000 + number, "start_ticks": number, "host": "made-up"},
    }
    return RunRecord.model_validate({**common, **parts})


def _detection(network: str, has_checkpoint: bool, detector: str, chance: random.Random) -> dict[str, Any]:
    average_precision = (0.36 if has_checkpoint else 0.22) + chance.gauss(0.0, 0.003)
    config = f"MODEL:\n  META_ARCHITECTURE: {detector}\n  MASK_ON: false\n{_REST_OF_CONFIG}\n"
    split = {"fingerprint": "c" * 64, "classes": list(_CLASSES)}
    return {
        "kind": "detection",
        "engine": "detectron2",
        "config": config,
        "network": _network(network, has_checkpoint) | {"norm": "FrozenBN" if has_checkpoint else "BN", "freeze_at": 2},
        "data": {
            name: split
            | {"path": f"coco/annotations/instances_{name}2017.json", "images": images, "annotations": count}
            for name, images, count in (("train", 117_266, 860_001), ("val", 5_000, 36_781))
        },
        "recipe": {"effective_batch": 16, "base_lr": 0.01, "iterations": 9_000},
        "metrics": {"bbox": dict.fromkeys(COCO_KEYS, average_precision)},
        "per_class": {
            "bbox": {
                name: {"AP": min(1.0, max(0.0, average_precision + chance.gauss(0, 0.1))), "AP50": 0.5}
                for name in _CLASSES
            }
        },
        "evaluations": [
            {
                "iteration": 1_000 * step,
                "holds": "raw",
                "metrics": {"bbox": dict.fromkeys(COCO_KEYS, average_precision * step / 9)},
            }
            for step in range(1, 10)
        ],
    }


def _transfer(network: str, dataset: str, protocol: str, seed: int, chance: random.Random) -> dict[str, Any]:
    accuracy = 0.8 + 0.01 * _NETWORKS.index(network) + chance.gauss(0.0, 0.004)
    split = {"path": dataset, "images": 4_000, "fingerprint": "d" * 64}
    return {
        "kind": "transfer",
        "config": f"# protocol {protocol}\nnetwork: {network}\ndataset: {dataset}\nseed: {seed}\n",
        "network": _network(network, protocol != "scratch"),
        "data": {"train": split, "val": split},
        "recipe": {"effective_batch": 64, "base_lr": 0.01, "iterations": 9_000},
        "metrics": {"test": {"top1": accuracy, "mean_per_class": accuracy - 0.01, "loss": 0.7}},
        "evaluations": [
            {"iteration": 450 * step, "holds": "raw", "metrics": {"train": {"loss": 3.0 / step, "top1": 0.9}}}
            for step in range(1, 21)
        ],
    }


def _network(name: str, has_checkpoint: bool) -> dict[str, Any]:
    sha256 = f"{_NETWORKS.index(name) + 1:x}" * 64 if has_checkpoint else None
    return {"name": name, "sha256": sha256, "source": f"{name}@made_up" if has_checkpoint else None}
