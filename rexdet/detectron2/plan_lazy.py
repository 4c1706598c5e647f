"""The plan of a LazyConfig (FCOS and others that detectron2 describes in Python)."""

from __future__ import annotations

from typing import Any

import torch
import yaml
from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from rexdet.detectron2 import use_backbone
from rexdet.detectron2.plan import Plan, whole_detector
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.session.recipe import output_folder, refuse_unknown_weights


def plan_from_lazy(job: DetectionJob, classes: int | None) -> Plan:
    """Read a LazyConfig with everything that the job overrides in it. Raises UserError."""
    cfg = _load(job)
    given = {
        "batch": cfg.dataloader.train.total_batch_size,
        "base_lr": cfg.optimizer.lr,
        "iterations": cfg.train.max_iter,
    }
    said: list[str] = []
    _choose_network(cfg, job, said)
    cfg = _override(cfg, job.overrides)
    if cfg.train.device == "cuda" and not torch.cuda.is_available():
        cfg.train.device = "cpu"
        said.append("no CUDA device: running on the CPU")
    if classes is not None and OmegaConf.select(cfg, "model.num_classes") not in (None, classes):
        said.append(f"heads for {classes} classes, as the data lists (the config says {cfg.model.num_classes})")
        cfg.model.num_classes = classes
    train, test = cfg.dataloader.train, cfg.dataloader.test
    output = output_folder(job, cfg.train.output_dir)
    return Plan(
        name=output.name,
        config_text=yaml.safe_dump(_plain(OmegaConf.to_container(cfg)), sort_keys=False),
        output=output,
        seed=job.seed if job.seed is not None else OmegaConf.select(cfg, "train.seed"),
        device=cfg.train.device,
        train_name=_name(train.dataset.names),
        val_name=_name(test.dataset.names),
        image_format=train.mapper.image_format,
        train_augmentations=instantiate(train.mapper.augmentations),
        test_augmentations=instantiate(test.mapper.augmentations),
        use_masks=bool(OmegaConf.select(train, "mapper.use_instance_mask", default=False)),
        keep_empty=OmegaConf.select(train, "dataset.filter_empty", default=True) is False,
        batch=train.total_batch_size,
        iterations=cfg.train.max_iter,
        checkpoint_period=cfg.train.checkpointer.period,
        evaluation_period=cfg.train.eval_period,
        workers=train.num_workers,
        amp=job.amp or (("fp16" if cfg.train.device.startswith("cuda") else "bf16") if cfg.train.amp.enabled else None),
        backbone=_backbone_name(cfg),
        own_backbone="name" in OmegaConf.select(cfg, "model.backbone.bottom_up", default={}),
        group_by_aspect=OmegaConf.select(train, "aspect_ratio_grouping", default=True),
        largest_side=_largest_side(train.mapper.augmentations),
        detector_weights=OmegaConf.select(cfg, "train.init_checkpoint", default="") or "",
        base_lr=cfg.optimizer.lr,
        optimizer_name=_optimizer_words(cfg),
        schedule=_flat(cfg.lr_multiplier.get("scheduler", {})),
        warm_up=f"{cfg.lr_multiplier.get('warmup_length', 0):g} of the run from "
        f"{cfg.lr_multiplier.get('warmup_factor', 1):g}",
        pixel_mean=list(cfg.model.pixel_mean),
        pixel_std=list(cfg.model.pixel_std),
        build_model=lambda: instantiate(cfg.model),
        build_optimizer=lambda model: _optimizer(cfg, model),
        build_scheduler=lambda optimizer: _scheduler(cfg, optimizer),
        recipe={**given, "lr_reference": (given["batch"], given["base_lr"])},
        cfg=cfg,
        said=said,
    )


def _load(job: DetectionJob) -> DictConfig:
    try:
        cfg = LazyConfig.load(job.config)
    except (SyntaxError, NameError, ImportError, AttributeError) as error:
        raise UserError(f"cannot be read as a LazyConfig: {error}", where=job.config) from error
    missing = [key for key in ("model", "optimizer", "lr_multiplier", "dataloader", "train") if key not in cfg]
    if missing:
        raise UserError(f"is not a training config: it has no {', '.join(missing)}", where=job.config)
    return cfg


def _choose_network(cfg: DictConfig, job: DetectionJob, said: list[str]) -> None:
    refuse_unknown_weights(job.weights)
    detector = bool(job.weights) and whole_detector(job.weights)
    if job.weights:
        said.append(f"--weights {job.weights}: " + ("a whole detector" if detector else "a backbone or a classifier"))
    backbone_weights = job.weights if job.weights and not detector else None
    if job.pixels:
        cfg.model.backbone.bottom_up.pixels = job.pixels
    if job.backbone:
        use_backbone(cfg, job.backbone, backbone_weights)
    elif backbone_weights:
        raise UserError(
            "weights of a backbone for a LazyConfig", where=job.weights, fix="say which network with --backbone"
        )
    if detector:
        cfg.train.init_checkpoint = job.weights


def _override(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """detectron2's habit for LazyConfigs is KEY=VALUE; KEY VALUE is understood as well."""
    words = list(overrides)
    assignments: list[str] = []
    while words:
        word = words.pop(0)
        if "=" in word:
            assignments.append(word)
        elif words:
            assignments.append(f"{word}={words.pop(0)}")
        else:
            raise UserError(f"{word!r} has no value", fix="write KEY=VALUE or KEY VALUE")
    try:
        return LazyConfig.apply_overrides(cfg, assignments)
    except Exception as error:  # hydra raises many kinds for what the user typed
        raise UserError(f"override not understood: {error}") from error


def _largest_side(augmentations: Any) -> int:
    """The longest side that a resizing augmentation allows; COCO's 1333 where none says."""
    return max((int(step.get("max_size", 0)) for step in augmentations), default=0) or 1333


def _plain(value: Any) -> Any:
    """A config's values with classes and functions written as their dotted names."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}"


def _optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    cfg.optimizer.params.model = None
    return optimizer


def _scheduler(cfg: DictConfig, optimizer: torch.optim.Optimizer) -> Any:
    from detectron2.solver import LRMultiplier

    return LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), cfg.train.max_iter)


def _name(names: Any) -> str:
    if isinstance(names, str):
        return names
    if len(names) != 1:
        raise UserError(f"{len(names)} data sets are named and this tool takes one", where="dataloader")
    return str(names[0])


def _backbone_name(cfg: DictConfig) -> str:
    bottom_up = OmegaConf.select(cfg, "model.backbone.bottom_up", default={})
    return str(bottom_up.get("name") or bottom_up.get("_target_", "unknown"))


def _optimizer_words(cfg: DictConfig) -> str:
    target = cfg.optimizer.get("_target_", "")
    name = target if isinstance(target, str) else target.__name__
    return f"{name.rsplit('.', 1)[-1]} weight decay {cfg.optimizer.get('weight_decay', 0):g}"


def _flat(node: Any) -> str:
    return ", ".join(f"{key!s} {value}" for key, value in dict(node).items() if key != "_target_")
