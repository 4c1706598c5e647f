"""Showing a step again whose loss was not finite."""

from __future__ import annotations

import torch

from rexdet.detectron2.plan import make_plan
from rexdet.detectron2.step import NonFiniteLossError, autocast_type, first_non_finite_module, load_replay
from rexdet.job import DetectionJob


def replay(job: DetectionJob) -> int:
    """Run the saved micro-batch from the saved state and tell loss terms and the first bad module. Returns 0.

    Raises UserError for a file that is none, or that does not fit the config.
    """
    from rexdet.detectron2.run import restore_choices

    content = load_replay(job.replay)
    meta = content["rexdet_replay"]
    plan = make_plan(job, classes=len(meta["classes"]["names"]))
    restore_choices(plan, meta, job.replay)
    device = torch.device(plan.device)
    detector = plan.build_model().to(device)
    detector.load_state_dict(content["model"])
    detector.train()
    trouble = NonFiniteLossError({}, content["batch"], content["random"], content["buffers"], content["numbers"])
    from detectron2.utils.events import EventStorage

    with EventStorage(meta["step"] - 1):
        module = first_non_finite_module(detector, trouble, autocast_type(meta["amp"] or None), device)
    print(f"step {meta['step']}, pictures {trouble.image_ids()}")
    for name, value in trouble.terms.items():
        print(f"  {name}: {value}")
    print(f"first module with a non-finite output: {module}")
    return 0
