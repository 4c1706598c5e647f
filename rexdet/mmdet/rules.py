"""What a job makes of a config before it is built, and what of a config this tool does not do."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.logging import MMLogger

from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.mmdet.loops import EPOCH_LOOP, ITERATION_LOOP
from rexdet.mmdet.options import typed_keys
from rexdet.mmdet.types import type_name

_LOOPS = {"EpochBasedTrainLoop": EPOCH_LOOP, "IterBasedTrainLoop": ITERATION_LOOP}
_SAMPLERS = ("DefaultSampler", "InfiniteSampler")
_BATCH_SAMPLERS = ("AspectRatioBatchSampler",)


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


def check_config(cfg: Config) -> None:
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


def set_loop(cfg: Config) -> str:
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


def set_classes(cfg: Config, job: DetectionJob, classes: int | None, said: list[str]) -> None:
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


def set_optimizer(cfg: Config, job: DetectionJob) -> tuple[int, str | None]:
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


def set_ema(cfg: Config, job: DetectionJob) -> float:
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


def batch_size(node: Mapping[str, Any]) -> int:
    size = node.get("batch_size") or (node.get("batch_sampler") or {}).get("batch_size")
    if not isinstance(size, int) or size < 1:
        raise UserError(f"{size!r} is no number of pictures", where="train_dataloader.batch_size")
    return size


@contextmanager
def unsaid(*names: str) -> Iterator[None]:
    """Inside, these loggers say nothing but errors; "mmengine" stands for mmengine's own, whichever is in use.

    A config is read twice, the second time aloud; and mmengine lists every tensor that it initialises.
    """
    loggers: list[logging.Logger] = [logging.getLogger(name) for name in names if name != "mmengine"]
    if "mmengine" in names:
        loggers.append(MMLogger.get_current_instance())
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
