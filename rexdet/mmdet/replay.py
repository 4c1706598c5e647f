"""A training step of MMDetection's models as plain values, and shown again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.session.checkpoints import check_rule
from rexdet.session.nonfinite import first_non_finite_module, load_replay, tell_replay, trouble_of_replay
from rexdet.session.precision import as_written, autocast_type


def losses_again(detector: Any, data: Mapping[str, Any], dtype: torch.dtype | None, device: torch.device) -> Any:
    """The loss terms of a micro-batch, as a training step computes them: name -> number."""
    with as_written(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        prepared = detector.data_preprocessor(data, True)
        losses = detector._run_forward(prepared, mode="loss")
    _, terms = detector.parse_losses(losses)
    # The total comes first there; the term that it comes from tells more.
    return {name: value for name, value in terms.items() if name != "loss" or len(terms) == 1}


def plain_batch(data: Mapping[str, Any]) -> dict[str, Any]:
    """A micro-batch as tensors, numbers and texts, for a file."""
    return {"inputs": list(data["inputs"]), "samples": [_plain_sample(sample) for sample in data["data_samples"]]}


def batch_of_plain(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What `plain_batch` made, as MMDetection's input again."""
    return {"inputs": plain["inputs"], "data_samples": [_sample_of_plain(sample) for sample in plain["samples"]]}


def _plain_sample(sample: DetDataSample) -> dict[str, Any]:
    meta = {key: _plain_value(value) for key, value in sample.metainfo.items()}
    parts = {name: sample.get(name) for name in ("gt_instances", "ignored_instances")}
    return {"meta": meta, **{name: _plain_instances(part) for name, part in parts.items() if part is not None}}


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain_value(part) for part in value]
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def _plain_instances(part: InstanceData) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, torch.Tensor):
            plain[name] = value
        elif hasattr(value, "tensor"):
            plain[name] = {"boxes": value.tensor}
        elif isinstance(value, BitmapMasks):
            plain[name] = {"bitmaps": torch.from_numpy(value.masks), "size": [value.height, value.width]}
        elif isinstance(value, PolygonMasks):
            polygons = [[torch.as_tensor(piece) for piece in thing] for thing in value.masks]
            plain[name] = {"polygons": polygons, "size": [value.height, value.width]}
    return plain


def _sample_of_plain(plain: Mapping[str, Any]) -> DetDataSample:
    sample = DetDataSample(metainfo=_as_tuples(plain["meta"]))
    for name in ("gt_instances", "ignored_instances"):
        if name in plain:
            setattr(sample, name, _instances_of_plain(plain[name]))
    return sample


def _as_tuples(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in meta.items()}


def _instances_of_plain(plain: Mapping[str, Any]) -> InstanceData:
    part = InstanceData()
    for name, value in plain.items():
        if isinstance(value, torch.Tensor):
            part[name] = value
        elif "boxes" in value:
            part[name] = HorizontalBoxes(value["boxes"])
        elif "bitmaps" in value:
            part[name] = BitmapMasks(value["bitmaps"].numpy(), *value["size"])
        else:
            polygons = [[piece.numpy() for piece in thing] for thing in value["polygons"]]
            part[name] = PolygonMasks(polygons, *value["size"])
    return part


def replay(job: DetectionJob) -> int:
    """Run the saved micro-batch from the saved state and tell loss terms and the first bad module. Returns 0.

    Raises UserError for a file that is none, or that does not fit the config.
    """
    from rexdet.mmdet.build import build_model
    from rexdet.mmdet.plan import make_plan

    content = load_replay(job.replay)
    meta = content["rexdet_replay"]
    if meta.get("engine", "mmdet") != "mmdet":
        raise UserError(f"is a step of {meta['engine']}", where=job.replay, fix="give that engine's config")
    plan = make_plan(job, classes=len(meta["classes"]["names"]), identity=meta)
    check_rule(plan.backbone, meta, job.replay, "set model.backbone.name to {network}")
    detector: Any = build_model(plan, filled=True).to(plan.device)
    detector.load_state_dict(content["model"])
    detector.train()
    trouble = trouble_of_replay(content, batch_of_plain(content["batch"]))
    dtype = autocast_type(meta["amp"] or None)
    module = first_non_finite_module(
        detector, trouble, lambda: losses_again(detector, trouble.inputs, dtype, plan.device)
    )
    tell_replay(trouble, meta["step"], module)
    return 0
