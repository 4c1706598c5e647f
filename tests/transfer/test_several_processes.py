"""torchrun: two processes give what one gives where norms learn no statistics; where they do, the record says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rexdet.runs import read_record

# Trains a small network on the folder of argument 1 and leaves its weights in argument 2.
SCRIPT = """\
import sys
from pathlib import Path

import torch

from rexdet.processes import is_main, process_group
from rexdet.runs import Network
from rexdet.transfer.images import read_split
from rexdet.transfer.job import Job, run_job
from rexdet.transfer.protocols import Protocol
from rexdet.zoo import create_model

torch.set_num_threads(1)
data, output, freeze = sys.argv[1:]
protocol = Protocol.model_validate({
    "name": "tiny", "image_size": 12, "steps": 14, "batch_size": 10, "learning_rate": 0.05, "nesterov": True,
    "schedule": {"kind": "cosine"}, "augmentation": {"pad": 2, "flip": True}, "ema": 0.8, "freeze": freeze,
})
train = read_split(data, "train", 12)
networks = []

def build():
    networks.append(create_model("resnet8b_cifar", 3))
    return networks[-1]

with process_group("cpu"):
    record = run_job(Job("tiny", Path(output), Network(name="tiny"), build, protocol, train,
                         lambda: read_split(data, "test", 12, classes=train.classes), seed=1))
    if is_main():
        torch.save({**networks[0].state_dict(), "history": torch.tensor([entry.metrics["train"]["loss"]
                    for entry in record.evaluations])}, Path(output) / "weights.pt")
"""


def run(command: list[str], script: Path, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*command, str(script), *arguments]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("freeze", ["norms", "none"])
def test_two_processes_give_what_one_gives(colours: Path, tmp_path: Path, freeze: str) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    run(launcher, script, str(colours), str(tmp_path / "two"), freeze)
    record = read_record(tmp_path / "two")
    assert record.recipe is not None
    assert (record.recipe.world_size, record.recipe.per_process_batch) == (2, 5)
    told = [event.message for event in record.events if event.code == "norm_statistics"]
    if freeze == "none":
        # Each process's norms saw its own half of a batch, and the record says so.
        assert told == ["batch norms used statistics of each process's own 5 images a step"]
        return
    assert told == []
    run([sys.executable], script, str(colours), str(tmp_path / "one"), freeze)
    alone = read_record(tmp_path / "one")
    one, two = (torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("one", "two"))
    for key, value in one.items():
        assert torch.allclose(value, two[key], rtol=0, atol=1e-5), key
    assert alone.metrics["test"]["top1"] == record.metrics["test"]["top1"]
    assert alone.metrics["test"]["loss"] == pytest.approx(record.metrics["test"]["loss"], abs=1e-5)
