"""torchrun: two processes give what one gives where norms learn no statistics; where they do, the record says so."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from rexdet.runs import RunRecord, read_record

# On the folder of argument 1: a small network trained with each way of freezing, features through a store and in
# memory, and a probe of them. All in one group of processes: each launch costs ten seconds. Results go to argument 2.
SCRIPT = """\
import sys
from pathlib import Path

import numpy as np
import torch

from rexdet.processes import is_main, process_group, rank
from rexdet.runs import Network
from rexdet.transfer import features
from rexdet.transfer.datasets import open_dataset
from rexdet.transfer.framing import Framing
from rexdet.transfer.images import read_split
from rexdet.transfer.job import Job, run_job
from rexdet.transfer.probe import run_linear_probe
from rexdet.transfer.protocols import Protocol
from rexdet.zoo import create_model

features.BLOCK = 16
data, output = sys.argv[1], Path(sys.argv[2])
train = read_split(data, "train", 12)

def training(freeze):
    protocol = Protocol.model_validate({
        "name": "tiny", "image_size": 12, "steps": 14, "batch_size": 10, "learning_rate": 0.05, "nesterov": True,
        "schedule": {"kind": "cosine"}, "augmentation": {"pad": 2, "flip": True}, "ema": 0.8, "freeze": freeze,
    })
    networks = []

    def build():
        networks.append(create_model("resnet8b_cifar", 3))
        return networks[-1]

    record = run_job(Job("tiny", output / freeze, Network(name="tiny"), build, protocol, train,
                         lambda: read_split(data, "test", 12, classes=train.classes), seed=1))
    if is_main():
        torch.save({**networks[0].state_dict(), "history": torch.tensor([entry.metrics["train"]["loss"]
                    for entry in record.evaluations])}, output / freeze / "weights.pt")

def probe():
    dataset = open_dataset("folder", data)
    make = lambda: features.Extractor("resnet20_cifar", framing=Framing("whole", 16, 16))
    listing = dataset.train_and_val()
    kept, passed = make().extract(listing, output / "kept"), make().extract(listing)
    tuned = [make().extract(part) for part in dataset.tuning_split()]
    found = run_linear_probe(*tuned, lambda: make().extract(dataset.test.open()), penalties=(1e-3, 1e-1, 1e1))
    np.savez(output / f"of_{rank()}.npz", kept=kept.features, passed=passed.features,
             weights=found.weights.numpy(), val=found.choice.val, top1=found.test.top1, loss=found.test.loss)

with process_group("cpu"):
    training("norms")
    training("none")
    probe()
"""


@dataclass(frozen=True)
class Results:
    """What the script left: with two processes, and with one."""

    two: Path
    one: Path

    def records(self, freeze: str) -> tuple[RunRecord, RunRecord]:
        return read_record(self.two / freeze), read_record(self.one / freeze)


@pytest.fixture(scope="module")
def results(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "REXDET_CACHE": str(folder / "cache")}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (folder / "two").mkdir()
    (folder / "one").mkdir()
    words = [*launcher, str(script), str(colours), str(folder / "two")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            patch.dict(os.environ, {"REXDET_CACHE": str(folder / "cache")}),
            patch.object(sys, "argv", ["script.py", str(colours), str(folder / "one")]),
            patch("rexdet.transfer.features.BLOCK", 16),
        ):
            runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    return Results(folder / "two", folder / "one")


def test_frozen_norms_train_as_in_one_process(results: Results) -> None:
    record, alone = results.records("norms")
    assert record.recipe is not None
    assert (record.recipe.world_size, record.recipe.per_process_batch) == (2, 5)
    assert [event for event in record.events if event.code == "norm_statistics"] == []
    one, two = (torch.load(folder / "norms" / "weights.pt", weights_only=True) for folder in (results.one, results.two))
    for key, value in one.items():
        assert torch.allclose(value, two[key], rtol=0, atol=1e-5), key
    assert alone.metrics["test"]["top1"] == record.metrics["test"]["top1"]
    assert alone.metrics["test"]["loss"] == pytest.approx(record.metrics["test"]["loss"], abs=1e-5)


def test_norms_that_train_use_their_own_images_and_the_record_says_so(results: Results) -> None:
    record, _ = results.records("none")
    told = [event.message for event in record.events if event.code == "norm_statistics"]
    assert told == ["batch norms used statistics of each process's own 5 images a step"]


def test_features_and_their_probe_are_those_of_one_process(results: Results) -> None:
    alone = np.load(results.one / "of_0.npz")
    for number in (0, 1):
        found = np.load(results.two / f"of_{number}.npz")
        np.testing.assert_allclose(found["kept"], alone["kept"], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found["passed"], found["kept"])
        np.testing.assert_array_equal(found["val"], alone["val"])
        np.testing.assert_allclose(found["weights"], alone["weights"], atol=1e-5 * np.abs(alone["weights"]).max())
        assert float(found["top1"]) == float(alone["top1"])
        assert float(found["loss"]) == pytest.approx(float(alone["loss"]), abs=1e-5)
    assert len(list((results.two / "kept").glob("*.npy"))) == 1
