"""What a job means in MMDetection: the config with everything that overrides it, and the run in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet.amp import check_operators
from rexdet.mmdet.data import innermost_dataset
from rexdet.mmdet.fit import BACKBONE, complete_config
from rexdet.mmdet.loops import EPOCH_LOOP
from rexdet.mmdet.network import choose_network, is_random, restore_network, start_from_nothing
from rexdet.mmdet.options import merge_options, typed_keys
from rexdet.mmdet.rules import (
    batch_size,
    check_config,
    read_config,
    set_classes,
    set_ema,
    set_loop,
    set_optimizer,
)
from rexdet.mmdet.types import type_name
from rexdet.mmdet.words import optimizer_words, schedule_words, warm_up_words
from rexdet.processes import world_size
from rexdet.session.data import CocoFiles, files_by_name
from rexdet.session.recipe import output_folder

VALIDATION = "val_dataloader.dataset"
# Transforms that keep pictures from one sample to another: what they give hangs on the worker.
CACHING = ("CachedMosaic", "CachedMixUp")


@dataclass
class Plan:
    """A detection run of MMDetection in numbers.

    batch: images a process and forward pass. length: epochs or iterations, as by_epoch says. accumulate: forward
    passes an optimiser step. backbone: the zoo name, or the type where the backbone is not ours (own_backbone tells).
    detector_weights: a whole detector's file to start from, or "". said: lines to print before the run begins.
    """

    name: str
    config_text: str
    output: Path
    seed: int | None
    cfg: Config
    train_node: Any
    test_pipeline: list[Any]
    has_validation: bool
    use_masks: bool
    keep_empty: bool
    shuffle: bool
    group_by_aspect: bool
    largest_side: int
    batch: int
    workers: int
    accumulate: int
    by_epoch: bool
    length: int
    steps_named: int
    amp: str | None
    ema: float
    backbone: str
    own_backbone: bool
    detector_weights: str
    base_lr: float
    recipe: dict[str, Any]
    said: list[str] = field(default_factory=list)

    @property
    def effective_batch(self) -> int:
        """Images an optimiser step, over all processes."""
        return self.batch * world_size() * self.accumulate

    @property
    def device(self) -> torch.device:
        """Where the model lies: MMDetection takes CUDA where there is one."""
        return _device()

    def steps_an_epoch(self, samples: int) -> int:
        """Forward passes an epoch over so many training samples; the last batch reaches over into the next epoch."""
        return self.steps_named or -(-samples // (self.batch * world_size()))

    def iterations(self, samples: int) -> int:
        """Forward passes of the whole run."""
        return self.length * self.steps_an_epoch(samples) if self.by_epoch else self.length

    def words(self) -> dict[str, str]:
        """Optimiser, schedule and warm-up as a record tells them."""
        return recipe_words(self.cfg)

    @property
    def pixels(self) -> dict[str, Any]:
        """mean, std and order of the network's input, 0 to 255; in channel order, as the preprocessor has them."""
        node = self.cfg.model.get("data_preprocessor") or self.cfg.get("data_preprocessor") or {}
        order = "RGB" if node.get("bgr_to_rgb") else "BGR"
        mean, std = node.get("mean") or [0.0] * 3, node.get("std") or [1.0] * 3
        return {"mean": [float(value) for value in mean], "std": [float(value) for value in std], "order": order}


def recipe_words(cfg: Config) -> dict[str, str]:
    """Optimiser, schedule and warm-up of a config in words."""
    return {
        "optimizer": optimizer_words(cfg.optim_wrapper.optimizer),
        "schedule": schedule_words(cfg.get("param_scheduler")),
        "warm_up": warm_up_words(cfg.get("param_scheduler")),
    }


def make_plan(
    job: DetectionJob, *, classes: int | None, identity: Mapping[str, Any] | None = None, draft: bool = False
) -> Plan:
    """Read a job's config and everything that overrides it.

    classes: how many the heads get; None: the config's own. identity: what the checkpoint that the detector is filled
    from says of itself; its backbone is then built as it was. draft: for a first look, before a checkpoint is found;
    what follows from the network is not filled in.
    Raises UserError for whatever in the config cannot be.
    """
    said: list[str] = []
    cfg = read_config(job.config)
    recipe = _recipe(cfg, job.config)
    merge_options(cfg, job.cfg_options)
    check_config(cfg)
    if job.weights:
        cfg.load_from = None
    detector = choose_network(cfg, job, said) or str(cfg.get("load_from") or "")
    set_classes(cfg, job, classes, said)
    if identity is not None:
        restore_network(cfg, identity)
    elif not detector and is_random(cfg):
        start_from_nothing(cfg, typed_keys(job.cfg_options), said)
    if detector and identity is None and type_name(cfg.model.get("backbone", {})) == BACKBONE:
        cfg.model.backbone.filled_later = True
    if not draft:
        complete_config(cfg, check_pixels=identity is None)
    accumulate, amp = set_optimizer(cfg, job)
    check_operators(amp, _device())
    ema = set_ema(cfg, job)
    node = cfg.train_dataloader
    innermost = innermost_dataset(node.dataset)
    if any(type_name(step) in CACHING for step in _all_steps(node.dataset)):
        said.append("cached pictures hang on the workers: a resumed run sees others than an unbroken one")
    output = output_folder(job, str(cfg.get("work_dir") or ""))
    cfg.work_dir = str(output)
    loop = set_loop(cfg)
    backbone = cfg.model.get("backbone", {})
    own = type_name(backbone) == BACKBONE
    return Plan(
        name=output.name,
        config_text=cfg.pretty_text,
        output=output,
        seed=job.seed if job.seed is not None else (cfg.get("randomness") or {}).get("seed"),
        cfg=cfg,
        train_node=node.dataset,
        test_pipeline=_test_pipeline(cfg),
        has_validation=_validation_node(cfg) is not None,
        use_masks=any(
            type_name(step) == "LoadAnnotations" and step.get("with_mask") for step in _all_steps(node.dataset)
        ),
        keep_empty=not (innermost.get("filter_cfg") or {}).get("filter_empty_gt", False),
        shuffle=bool((node.get("sampler") or {}).get("shuffle", True)),
        group_by_aspect=type_name(node.get("batch_sampler")) == "AspectRatioBatchSampler",
        largest_side=_largest_side(node.dataset),
        batch=batch_size(node),
        workers=int(node.get("num_workers", 0)),
        accumulate=accumulate,
        by_epoch=loop == EPOCH_LOOP,
        length=int(cfg.train_cfg.max_epochs if loop == EPOCH_LOOP else cfg.train_cfg.max_iters),
        steps_named=int(node.get("num_batch_per_epoch") or 0),
        amp=amp,
        ema=ema,
        backbone=str(backbone.get("name")) if own else type_name(backbone),
        own_backbone=own,
        detector_weights=detector,
        base_lr=_base_lr(cfg, batch_size(node)),
        recipe=recipe,
        said=said,
    )


def files_of_config(cfg: Config) -> tuple[CocoFiles | None, CocoFiles | None]:
    """The files that a config's own loaders read: of training, and of validation. Raises UserError for other forms."""
    val = _validation_node(cfg)
    train = innermost_dataset(cfg.train_dataloader.dataset)
    return (
        _files_of(train, "train_dataloader.dataset", "train"),
        _files_of(innermost_dataset(val, VALIDATION), VALIDATION, "val") if val is not None else None,
    )


def _files_of(node: Mapping[str, Any], where: str, split: str) -> CocoFiles | None:
    if type_name(node) != "CocoDataset":
        raise UserError(
            f"{type_name(node)} is no data set in COCO form",
            where=where,
            fix="give the files with --train-annotations, --train-images, --val-annotations and --val-images",
        )
    if not node.get("ann_file"):
        return None
    root, prefix = Path(node.get("data_root") or ""), node.get("data_prefix") or {}
    files = CocoFiles(root / node["ann_file"], root / prefix.get("img", prefix.get("img_path", "")))
    if not files.annotations.is_file() and files.annotations.name == f"instances_{split}2017.json":
        # MMDetection's own place for COCO is data/coco; it may lie where detectron2's users have it.
        return files_by_name(f"coco_2017_{split}")
    return files


def _validation_node(cfg: Config) -> Any:
    for key in ("val_dataloader", "test_dataloader"):
        if cfg.get(key) is not None:
            return cfg[key].dataset
    return None


def _test_pipeline(cfg: Config) -> list[Any]:
    node = _validation_node(cfg)
    if node is None:
        raise UserError("neither val_dataloader nor test_dataloader says how a picture is prepared", where="config")
    return list(innermost_dataset(node, VALIDATION).get("pipeline", []))


def _base_lr(cfg: Config, batch: int) -> float:
    rate = float(cfg.optim_wrapper.optimizer.lr)
    scale = cfg.get("auto_scale_lr") or {}
    if scale.get("enable"):
        rate *= batch * world_size() / float(scale["base_batch_size"])
    return rate


def _recipe(cfg: Config, path: str) -> dict[str, Any]:
    """What the run is measured against: the config file itself, at the batch that its learning rate is for."""
    if cfg.get("train_dataloader") is None or "optimizer" not in (cfg.get("optim_wrapper") or {}):
        return {}
    batch = int((cfg.get("auto_scale_lr") or {}).get("base_batch_size") or batch_size(cfg.train_dataloader))
    rate = float(cfg.optim_wrapper.optimizer.lr)
    return {
        "batch": batch,
        "base_lr": rate,
        "length": length_words(cfg.train_cfg),
        "amp": "fp16" if type_name(cfg.optim_wrapper) == "AmpOptimWrapper" else "float32",
        "lr_reference": (batch, rate),
        **recipe_words(cfg),
    }


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def length_words(loop: Mapping[str, Any]) -> str:
    """How long a train_cfg trains, in words."""
    return f"{loop['max_epochs']} epochs" if loop.get("max_epochs") else f"{loop.get('max_iters')} iterations"


def _all_steps(node: Any) -> Iterator[Any]:
    """The transforms of a data set and of those below it."""
    yield from node.get("pipeline", [])
    for below in [node["dataset"]] if "dataset" in node else node.get("datasets", []):
        yield from _all_steps(below)


def _loads_masks(node: Any) -> bool:
    return any(type_name(step) == "LoadAnnotations" and step.get("with_mask") for step in _all_steps(node))


def _largest_side(node: Any) -> int:
    """The largest side of a training picture in px, as far as its pipeline tells."""
    keys = ("scale", "scales", "img_scale", "crop_size")
    sides = [side for step in _all_steps(node) for key in keys for side in _integers(step.get(key))]
    return max(sides, default=1333)


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _integers(part)
