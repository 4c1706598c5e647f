"""Showing a step again whose loss was not finite."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from rexdet.detectron2.plan import make_plan
from rexdet.detectron2.step import batch_of_plain, losses_again
from rexdet.job import DetectionJob
from rexdet.session.nonfinite import first_non_finite_module, load_replay, tell_replay, trouble_of_replay
from rexdet.session.precision import autocast_type


def replay(job: DetectionJob) -> int:
    """Run the saved micro-batch from the saved state and tell loss terms and the first bad module. Returns 0.

    Raises UserError for a file that is none, or that does not fit the config.
    """
    from rexdet.detectron2.run import check_rule, restore_choices

    content = load_replay(job.replay)
    meta = content["rexdet_replay"]
    plan = make_plan(job, classes=len(meta["classes"]["names"]))
    check_rule(plan, meta, job.replay)
    device = torch.device(plan.device)
    with tempfile.TemporaryDirectory() as folder:
        # A builder refuses weights that are not finite, and here they may well be: it is shown a clean copy.
        clean = Path(folder) / "clean.pth"
        finite = {key: torch.nan_to_num(value, 0.0, 0.0, 0.0) for key, value in content["model"].items()}
        torch.save({"model": {key: _sane(key, value) for key, value in finite.items()}}, clean)
        restore_choices(plan, meta, str(clean))
        detector = plan.build_model().to(device)
    detector.load_state_dict(content["model"])
    detector.train()
    trouble = trouble_of_replay(content, batch_of_plain(content["batch"]))
    dtype = autocast_type(meta["amp"] or None)
    from detectron2.utils.events import EventStorage

    with EventStorage(meta["step"] - 1):
        module = first_non_finite_module(
            detector, trouble, lambda: losses_again(detector, trouble.inputs, dtype, device)
        )
    tell_replay(trouble, meta["step"], module)
    return 0


def _sane(key: str, value: Tensor) -> Tensor:
    return value.clamp(min=0.0) if key.endswith("running_var") else value
