"""The plan of a YAML config."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from torch import nn

from rexdet.detectron2 import check_config, merge_config, use_backbone
from rexdet.detectron2.config import read_settings, uses_rexdet
from rexdet.detectron2.plan import Plan, whole_detector
from rexdet.errors import UserError
from rexdet.job import DetectionJob
from rexdet.session.recipe import output_folder, refuse_unknown_weights

# detectron2's published schedules (its MODEL_ZOO.md and configs/, "1x" and "3x"): 16 images a step, SGD, warm-up of
# 1,000 steps from 1/1000. Learning rate by the kind of detector.
RECIPE_BATCH = 16
RECIPE_RATES = {"RetinaNet": 0.01, "GeneralizedRCNN": 0.02}


def plan_from_yaml(job: DetectionJob, classes: int | None) -> Plan:
    """Read a YAML config with everything that the job overrides in it. Raises UserError."""
    cfg = get_cfg()
    merge_config(cfg, job.config, [])
    recipe = _recipe(cfg)
    said: list[str] = []
    _choose_network(cfg, job, said)
    if not torch.cuda.is_available() and cfg.MODEL.DEVICE == "cuda":
        cfg.MODEL.DEVICE = "cpu"
        said.append("no CUDA device: running on the CPU")
    merge_config(cfg, None, job.overrides)
    _set_classes(cfg, job, classes, said)
    if job.seed is not None:
        cfg.SEED = job.seed
    cfg.OUTPUT_DIR = str(output_folder(job, cfg.OUTPUT_DIR))
    if cfg.MODEL.KEYPOINT_ON:
        raise UserError("trains keypoints, which this tool does not", where="MODEL.KEYPOINT_ON")
    if not uses_rexdet(cfg) and job.pixels:
        raise UserError("--pixels is for backbones of ours; this config's is another", where=cfg.MODEL.BACKBONE.NAME)
    check_config(cfg)
    return Plan(
        name=output_folder(job, cfg.OUTPUT_DIR).name,
        config_text=cfg.dump(),
        output=output_folder(job, cfg.OUTPUT_DIR),
        seed=cfg.SEED if cfg.SEED >= 0 else None,
        device=cfg.MODEL.DEVICE,
        train_name=_one(cfg.DATASETS.TRAIN, "TRAIN"),
        val_name=_one(cfg.DATASETS.TEST, "TEST"),
        image_format=cfg.INPUT.FORMAT,
        train_augmentations=_train_augmentations(cfg),
        test_augmentations=detection_utils.build_augmentation(cfg, is_train=False),
        use_masks=cfg.MODEL.MASK_ON,
        keep_empty=not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        batch=cfg.SOLVER.IMS_PER_BATCH,
        iterations=cfg.SOLVER.MAX_ITER,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        evaluation_period=cfg.TEST.EVAL_PERIOD,
        workers=cfg.DATALOADER.NUM_WORKERS,
        amp=_precision(job, cfg),
        backbone=cfg.MODEL.REXDET.NAME if uses_rexdet(cfg) else cfg.MODEL.BACKBONE.NAME,
        own_backbone=uses_rexdet(cfg),
        group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        largest_side=max(cfg.INPUT.MAX_SIZE_TRAIN, *cfg.INPUT.MIN_SIZE_TRAIN),
        detector_weights=cfg.MODEL.WEIGHTS,
        base_lr=cfg.SOLVER.BASE_LR,
        optimizer_name=_optimizer_words(cfg),
        schedule=_schedule_words(cfg),
        warm_up=_warm_up_words(cfg),
        pixel_mean=list(cfg.MODEL.PIXEL_MEAN),
        pixel_std=list(cfg.MODEL.PIXEL_STD),
        build_model=lambda: build_model(cfg),
        build_optimizer=lambda model: make_optimizer(cfg, model),
        build_scheduler=lambda optimizer: build_lr_scheduler(cfg, optimizer),
        recipe=recipe,
        cfg=cfg,
        said=said,
    )


def _choose_network(cfg: CfgNode, job: DetectionJob, said: list[str]) -> None:
    refuse_unknown_weights(job.weights)
    detector = bool(job.weights) and whole_detector(job.weights)
    if job.weights:
        said.append(f"--weights {job.weights}: " + ("a whole detector" if detector else "a backbone or a classifier"))
    backbone_weights = job.weights if job.weights and not detector else None
    norm, freeze_at = cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT
    if job.pixels:
        cfg.MODEL.REXDET.PIXELS = job.pixels
    if job.backbone:
        use_backbone(cfg, job.backbone, backbone_weights)
    elif backbone_weights or job.pixels:
        if not uses_rexdet(cfg):
            raise UserError(
                "weights or pixels of a backbone for a config whose backbone is not one of ours",
                where=job.weights or job.pixels,
                fix="say which network they are for with --backbone",
            )
        settings = read_settings(cfg)
        if backbone_weights:
            use_backbone(cfg, settings.network, backbone_weights)
        else:
            use_backbone(cfg, settings.name, settings.weights or None)
    if detector:
        # A detector's file gives the backbone weights too: norms and freezing are the config's, not a random start's.
        cfg.MODEL.WEIGHTS = job.weights
        cfg.MODEL.REXDET.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = norm, freeze_at


def _set_classes(cfg: CfgNode, job: DetectionJob, classes: int | None, said: list[str]) -> None:
    if classes is None:
        return
    typed = [key for key in job.overrides[::2] if key in ("MODEL.RETINANET.NUM_CLASSES", "MODEL.ROI_HEADS.NUM_CLASSES")]
    key = "RETINANET" if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else "ROI_HEADS"
    node = cfg.MODEL[key]
    if classes == node.NUM_CLASSES:
        return
    if f"MODEL.{key}.NUM_CLASSES" in typed:
        raise UserError(
            f"MODEL.{key}.NUM_CLASSES is {node.NUM_CLASSES}, but the training annotations list {classes} categories",
            fix="leave it out: it follows the data",
        )
    said.append(f"heads for {classes} classes, as the data lists (the config says {node.NUM_CLASSES})")
    node.NUM_CLASSES = classes


def make_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """detectron2's optimiser, or AdamW with the same parameter groups where SOLVER.OPTIMIZER says so."""
    name = cfg.SOLVER.get("OPTIMIZER", "SGD")
    if name == "SGD":
        return build_optimizer(cfg, model)
    if name != "AdamW":
        raise UserError(f"{name!r} is neither SGD nor AdamW", where="SOLVER.OPTIMIZER")
    from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping

    groups = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    return maybe_add_gradient_clipping(cfg, torch.optim.AdamW(groups, lr=cfg.SOLVER.BASE_LR))


def _train_augmentations(cfg: CfgNode) -> list[Any]:
    augmentations = detection_utils.build_augmentation(cfg, is_train=True)
    if cfg.INPUT.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    return augmentations


def _precision(job: DetectionJob, cfg: CfgNode) -> str | None:
    if job.amp:
        return job.amp
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    return "fp16" if cfg.MODEL.DEVICE.startswith("cuda") else "bf16"


def _one(names: Any, key: str) -> str:
    if isinstance(names, str):
        raise UserError(f"{names!r} is a text, not a list", where=f"DATASETS.{key}", fix=f'write ("{names}",)')
    if len(names) > 1:
        raise UserError(f"{len(names)} data sets are named and this tool takes one", where=f"DATASETS.{key}")
    return str(names[0]) if names else ""


def _optimizer_words(cfg: CfgNode) -> str:
    solver = cfg.SOLVER
    if solver.get("OPTIMIZER", "SGD") == "SGD":
        return f"SGD momentum {solver.MOMENTUM:g} weight decay {solver.WEIGHT_DECAY:g}"
    return f"AdamW weight decay {solver.WEIGHT_DECAY:g}"


def _schedule_words(cfg: CfgNode) -> str:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        return f"x{solver.GAMMA:g} at {', '.join(map(str, solver.STEPS))}"
    return f"{solver.LR_SCHEDULER_NAME} to {solver.BASE_LR_END:g}"


def _warm_up_words(cfg: CfgNode) -> str:
    return f"{cfg.SOLVER.WARMUP_METHOD}, {cfg.SOLVER.WARMUP_ITERS} steps from {cfg.SOLVER.WARMUP_FACTOR:g}"


def _recipe(cfg: CfgNode) -> dict[str, Any]:
    """What the run is measured against: the config file itself, and for SGD detectron2's published learning rates."""
    recipe: dict[str, Any] = {
        "batch": cfg.SOLVER.IMS_PER_BATCH,
        "base_lr": cfg.SOLVER.BASE_LR,
        "iterations": cfg.SOLVER.MAX_ITER,
        "optimizer": _optimizer_words(cfg),
        "schedule": _schedule_words(cfg),
        "warm_up": _warm_up_words(cfg),
        "amp": "float32" if not cfg.SOLVER.AMP.ENABLED else "fp16",
        "lr_reference": (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR),
    }
    published = RECIPE_RATES.get(cfg.MODEL.META_ARCHITECTURE)
    if published and cfg.SOLVER.get("OPTIMIZER", "SGD") == "SGD":
        recipe["lr_reference"] = (RECIPE_BATCH, published)
    return recipe
