"""What a job means in MMDetection: the config with everything that overrides it, and the run in numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet.data import innermost_dataset
from rexdet.mmdet.fit import BACKBONE, complete_config
from rexdet.mmdet.loops import EPOCH_LOOP, ITERATION_LOOP
from rexdet.mmdet.network import choose_network, is_random, restore_network, start_from_nothing
from rexdet.mmdet.options import merge_options, typed_keys
from rexdet.mmdet.types import type_name
from rexdet.mmdet.words import optimizer_words, schedule_words, warm_up_words
from rexdet.processes import world_size
from rexdet.session.data import CocoFiles, files_by_name
from rexdet.session.recipe import output_folder

VALIDATION = "val_dataloader.dataset"
_LOOPS = {"EpochBasedTrainLoop": EPOCH_LOOP, "IterBasedTrainLoop": ITERATION_LOOP}
_SAMPLERS = ("DefaultSampler", "InfiniteSampler")
_BATCH_SAMPLERS = ("AspectRatioBatchSampler",)
# Transforms that keep pictures from one sample to another: what they give hangs on the worker.
_CACHING = ("CachedMosaic", "CachedMixUp")


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
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

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


def read_config(path: str) -> Config:
    """An mmengine config, its imports done. Raises UserError where it cannot be read."""
    try:
        with unsaid("mmengine"):
            cfg = Config.fromfile(path)
    except (ConfigParsingError, SyntaxError, ImportError, FileNotFoundError, KeyError, AttributeError) as error:
        raise UserError(f"cannot be read as an MMDetection config: {error}", where=path) from None
    if not isinstance(cfg.get("model"), Mapping) or "type" not in cfg.model:
        raise UserError("describes no model", where=path)
    return cfg


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
    _check(cfg)
    if job.weights:
        cfg.load_from = None
    detector = choose_network(cfg, job, said) or str(cfg.get("load_from") or "")
    _set_classes(cfg, job, classes, said)
    if identity is not None:
        restore_network(cfg, identity)
    elif not detector and is_random(cfg):
        start_from_nothing(cfg, typed_keys(job.cfg_options), said)
    if detector and identity is None and type_name(cfg.model.get("backbone", {})) == BACKBONE:
        cfg.model.backbone.filled_later = True
    if not draft:
        complete_config(cfg, check_pixels=identity is None)
    accumulate, amp = _set_optimizer(cfg, job)
    ema = _set_ema(cfg, job)
    node = cfg.train_dataloader
    innermost = innermost_dataset(node.dataset)
    if any(type_name(step) in _CACHING for step in _all_steps(node.dataset)):
        said.append("cached pictures hang on the workers: a resumed run sees others than an unbroken one")
    output = output_folder(job, str(cfg.get("work_dir") or ""))
    cfg.work_dir = str(output)
    loop = _set_loop(cfg)
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
        batch=_batch(node),
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
        base_lr=_base_lr(cfg, _batch(node)),
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


def _check(cfg: Config) -> None:
    """Raise UserError for what this tool does not do, in one line."""
    for key in ("train_dataloader", "train_cfg", "optim_wrapper"):
        if cfg.get(key) is None:
            raise UserError("is missing", where=key)
    if cfg.get("resume"):
        raise UserError("is True", where="resume", fix="going on is a switch here: --resume")
    if "optimizer" not in cfg.optim_wrapper:
        raise UserError("has no optimizer: several optimisers are not trained here", where="optim_wrapper")
    for key, known in (("sampler", _SAMPLERS), ("batch_sampler", _BATCH_SAMPLERS)):
        name = type_name(cfg.train_dataloader.get(key))
        if name and name not in known:
            raise UserError(
                f"{name} does not say where in its order it is, so a run could not be resumed",
                where=f"train_dataloader.{key}.type",
                fix=f"use {', '.join(known)}, or MMDetection's own tools/train.py",
            )
    evaluators = cfg.get("val_evaluator") or []
    for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
        if type_name(evaluator) not in ("CocoMetric", "RexDetCocoMetric"):
            raise UserError(
                f"{type_name(evaluator)} is not computed here",
                where="val_evaluator.type",
                fix="write CocoMetric: runs are scored with COCO's 12 numbers",
            )


def _set_loop(cfg: Config) -> str:
    loop = cfg.train_cfg
    by_epoch = loop.pop("by_epoch", None)
    name = type_name(loop) or ("IterBasedTrainLoop" if by_epoch is False else "EpochBasedTrainLoop")
    if name not in _LOOPS:
        raise UserError(f"{name} is not known here", where="train_cfg.type", fix=f"use {' or '.join(_LOOPS)}")
    loop.type = _LOOPS[name]
    key = "max_epochs" if loop.type == EPOCH_LOOP else "max_iters"
    if not isinstance(loop.get(key), int) or loop[key] < 1:
        raise UserError(f"{loop.get(key)!r} is no number of steps to train", where=f"train_cfg.{key}")
    return str(loop.type)


def _set_classes(cfg: Config, job: DetectionJob, classes: int | None, said: list[str]) -> None:
    if classes is None:
        return
    typed = typed_keys(job.cfg_options)
    before: set[int] = set()
    for path, head in heads_with_classes(cfg.model, "model"):
        if head["num_classes"] == classes:
            continue
        if f"{path}.num_classes" in typed:
            raise UserError(
                f"{path}.num_classes is {head['num_classes']}, but the training annotations list {classes} categories",
                fix="leave it out: it follows the data",
            )
        before.add(int(head["num_classes"]))
        head["num_classes"] = classes
    if before:
        config = " and ".join(map(str, sorted(before)))
        said.append(f"heads for {classes} classes, as the data lists (the config says {config})")


def heads_with_classes(node: Any, path: str, inside: bool = False) -> Iterator[tuple[str, Any]]:
    """Every head of a model that is told how many classes there are, with where it stands in the config.

    Heads of proposals and of segmentation into stuff have class counts of their own.
    """
    if isinstance(node, list | tuple):
        for index, part in enumerate(node):
            yield from heads_with_classes(part, f"{path}.{index}", inside)
        return
    if not isinstance(node, Mapping):
        return
    if inside and isinstance(node.get("num_classes"), int):
        yield path, node
    for key, value in node.items():
        if key in ("rpn_head", "semantic_head", "train_cfg", "test_cfg"):
            continue
        yield from heads_with_classes(value, f"{path}.{key}", inside or key.endswith("head"))


def _set_optimizer(cfg: Config, job: DetectionJob) -> tuple[int, str | None]:
    """Put accumulation and precision into the config's optim_wrapper; returns both as they are then."""
    wrapper = cfg.optim_wrapper
    accumulate = job.accumulate if job.accumulate > 1 else int(wrapper.get("accumulative_counts", 1))
    if accumulate > 1:
        wrapper.accumulative_counts = accumulate
    name = type_name(wrapper)
    if name not in ("", "OptimWrapper", "AmpOptimWrapper", "RexDetAmpOptimWrapper"):
        raise UserError(f"{name} is not known here", where="optim_wrapper.type", fix="use OptimWrapper")
    amp: str | None = job.amp or None
    if amp is None and name == "AmpOptimWrapper":
        wanted = str(wrapper.get("dtype") or ("float16" if torch.cuda.is_available() else "bfloat16"))
        amp = "bf16" if wanted.endswith("bfloat16") else "fp16"
    if amp is not None:
        wrapper.type = "RexDetAmpOptimWrapper"
        wrapper.dtype = "bfloat16" if amp == "bf16" else "float16"
    return accumulate, amp


def _set_ema(cfg: Config, job: DetectionJob) -> float:
    """Put --ema into the config as mmengine's EMAHook; returns the decay of averaged weights, 0 for none."""
    hooks = list(cfg.get("custom_hooks") or [])
    own = next((hook for hook in hooks if type_name(hook) == "EMAHook"), None)
    if own is not None:
        if job.ema:
            raise UserError(
                f"the config averages weights already (EMAHook, momentum {own.get('momentum', 0.0002)})",
                where="custom_hooks",
                fix="leave --ema out",
            )
        return 1.0 - float(own.get("momentum", 0.0002))
    if job.ema:
        momentum = round(1.0 - job.ema, 12)
        hooks.append({"type": "EMAHook", "momentum": momentum, "update_buffers": True, "priority": 49})
        cfg.custom_hooks = hooks
    return job.ema


def _batch(node: Mapping[str, Any]) -> int:
    size = node.get("batch_size") or (node.get("batch_sampler") or {}).get("batch_size")
    if not isinstance(size, int) or size < 1:
        raise UserError(f"{size!r} is no number of pictures", where="train_dataloader.batch_size")
    return size


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
    batch = int((cfg.get("auto_scale_lr") or {}).get("base_batch_size") or _batch(cfg.train_dataloader))
    rate = float(cfg.optim_wrapper.optimizer.lr)
    return {
        "batch": batch,
        "base_lr": rate,
        "length": length_words(cfg.train_cfg),
        "amp": "fp16" if type_name(cfg.optim_wrapper) == "AmpOptimWrapper" else "float32",
        "lr_reference": (batch, rate),
        **recipe_words(cfg),
    }


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


@contextmanager
def unsaid(*names: str) -> Iterator[None]:
    """Inside, these loggers' warnings about a config are held back: the same config is read again, aloud."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
