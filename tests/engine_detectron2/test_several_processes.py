"""Several processes: the exchange of gradients, and what each of them sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

# One step over four images: a frozen-norm backbone under a loss that is a mean over images.
SCRIPT = """\
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from rexdet.nets import Backbone, ReXNet
from rexdet.processes import gather, mean, process_group, rank, share, world_size

torch.set_num_threads(1)
with process_group("cpu") as device:
    torch.manual_seed(0)
    backbone = Backbone(ReXNet(0.6, depth=0.5, norm="FrozenBN")).train()
    model = DistributedDataParallel(backbone) if world_size() > 1 else backbone
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))[rank() :: world_size()]
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    features = model(images)
    loss = torch.stack([feature.square().mean((1, 2, 3)) for feature in features.values()]).sum(0).mean()
    loss.backward()
    optimizer.step()
    assert gather(rank()) == (list(range(world_size())) if rank() == 0 else [])
    assert share(rank() + 5) == 5
    assert mean(float(rank()), device) == (world_size() - 1) / 2
    if rank() == 0:
        torch.save({"loss": loss.detach(), **backbone.state_dict()}, Path(sys.argv[1]))
"""


def test_one_step_of_four_processes_is_the_step_of_one(tmp_path: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "4"]
    for command, name in (([sys.executable], "one.pt"), (launcher, "several.pt")):
        words = [*command, str(script), str(tmp_path / name)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-1500:]
    one, several = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "several.pt"))
    for key, value in one.items():
        if key != "loss":
            assert torch.allclose(value, several[key], rtol=0, atol=1e-5), key
