"""A plan's detector, and what its checkpoints say of themselves."""

from __future__ import annotations

from mmdet.registry import MODELS
from torch import nn

from rexdet.errors import UserError
from rexdet.mmdet.plan import Plan
from rexdet.mmdet.rules import unsaid
from rexdet.runs.record import RunRecord
from rexdet.session.checkpoints import Identity


def build_model(plan: Plan, *, filled: bool) -> nn.Module:
    """The detector of a plan on the CPU, its backbone's weights loaded, the rest at random.

    filled: a whole detector's file will be loaded: random weights are no news. Raises UserError.
    """
    try:
        detector: nn.Module = MODELS.build(plan.cfg.model)
    except (KeyError, TypeError, AssertionError) as error:
        # mmengine's registries wrap what a constructor says about its arguments.
        raise UserError(f"the model cannot be built: {error}", where=plan.name) from error
    names = ("rexdet.mmdet", "mmengine", "mmdet") if filled else ("mmengine",)
    with unsaid(*names):
        detector.init_weights()  # type: ignore[operator]
    return detector


def identity_of(plan: Plan, record: RunRecord, names: list[str], ids: list[int]) -> Identity:
    """What the checkpoints of a run say of themselves."""
    pixels = plan.pixels
    turn = slice(None, None, -1) if pixels["order"] == "BGR" else slice(None)
    return Identity(
        class_names=names,
        category_ids=ids,
        backbone=plan.backbone,
        norm=(record.network.norm or "") if record.network else "",
        freeze_at=(record.network.freeze_at or 0) if record.network else 0,
        config=plan.config_text,
        pixels={
            "mean": pixels["mean"][turn],
            "std": pixels["std"][turn],
            "order": pixels["order"],
            "value_range": 255,
            "resize": 0,
            "crop": 0,
            "interpolation": "bilinear",
        },
    )
