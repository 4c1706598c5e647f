"""What of a run's configuration shapes its numbers, as a key: runs of another key are never averaged together.

Left out is what does not shape them (seed, folders, workers, how often something is saved, evaluated or logged, the
device), what a record tells elsewhere (data by their fingerprints, so the number of classes too; the batch and the
precision by the recipe), and what belongs to the backbone, of which a row and its variant tell.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import Any

from rexdet.report.records.recorded_config import read_config, value_at, without_one_run
from rexdet.runs.matrix import content_key

# Dotted paths; * stands for any keys between.
_ANYWHERE = ("*.NUM_CLASSES", "*.num_classes", "*.in_channels", "*_scope_")
_DETECTRON2 = (
    *("SEED", "OUTPUT_DIR", "VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK", "GLOBAL"),
    *("DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER.NUM_WORKERS", "INPUT.FORMAT"),
    *("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"),
    *("SOLVER.CHECKPOINT_PERIOD", "SOLVER.REFERENCE_WORLD_SIZE", "SOLVER.AMP"),
    *("TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS"),
)
_DETECTRON2_BACKBONE = (
    *("MODEL.BACKBONE.FREEZE_AT", "MODEL.RESNETS"),
    *(f"MODEL.REXDET.{key}" for key in ("NAME", "WEIGHTS", "PIXELS", "NORM", "OVERRIDES", "ACT_CHECKPOINT")),
)
# Builders of detectron2's own ResNets, and those of ours with the same neck.
_OUR_BUILDERS = {
    "build_resnet_backbone": "build_rexdet_backbone",
    "build_resnet_fpn_backbone": "build_rexdet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone": "build_retinanet_rexdet_fpn_backbone",
}
_LAZY = (
    *("train.output_dir", "train.seed", "train.device", "train.init_checkpoint", "train.amp", "train.ddp"),
    *("train.checkpointer", "train.eval_period", "train.log_period", "dataloader.evaluator"),
    *("dataloader.*.names", "dataloader.*.num_workers", "dataloader.*.image_format"),
    *("model.pixel_mean", "model.pixel_std"),
)
_LAZY_BACKBONE = tuple(
    f"model.backbone.bottom_up.{key}"
    for key in ("_target_", "name", "weights", "norm", "freeze_at", "pixels", "overrides", "detector", "act_checkpoint")
)
# Of a ResNet of detectron2's own; the names of its outputs are those of ours, and count.
_LAZY_OTHER = tuple(f"model.backbone.bottom_up.{key}" for key in ("_target_", "stem", "stages", "freeze_at"))
_MMENGINE = (
    *("work_dir", "randomness", "load_from", "resume", "launcher", "env_cfg", "experiment_name", "runner_type"),
    *("visualizer", "vis_backends", "log_level", "log_processor", "default_scope", "custom_imports"),
    # Names that other parts of the text were made from, and what is done at test time only when it is asked for.
    *("data_root", "dataset_type", "backend_args", "img_scales", "*_pipeline", "tta_model", "auto_scale_lr"),
    *("val_evaluator", "test_evaluator", "train_cfg.val_interval", "train_cfg.val_begin", "train_cfg.dynamic_*"),
    *("*_dataloader.*data_root", "*_dataloader.*ann_file", "*_dataloader.*data_prefix", "*.backend_args"),
    *("*_dataloader.num_workers", "*_dataloader.persistent_workers", "*_dataloader.pin_memory"),
    *("*_dataloader.prefetch_factor", "*_dataloader.*.metainfo"),
    *("optim_wrapper.type", "optim_wrapper.dtype", "optim_wrapper.loss_scale"),
    *("model.init_cfg", *(f"model.data_preprocessor.{key}" for key in ("mean", "std", "bgr_to_rgb", "rgb_to_bgr"))),
)
_MMENGINE_BACKBONE = tuple(
    f"model.backbone.{key}"
    for key in ("type", "name", "init_cfg", "norm_*", "frozen_stages", "with_cp", "pixels", "overrides", "filled_later")
)
# Of a ResNet of MMDetection's own all but `out_indices`, which counts in ours, too.
_MMENGINE_OTHER = ("model.backbone.[!o]*",)
# How the batch is divided among processes and passes does not count, where the recipe tells what it comes to.
_BATCH = (
    *("SOLVER.IMS_PER_BATCH", "dataloader.train.total_batch_size", "train_dataloader.batch_size"),
    "optim_wrapper.accumulative_counts",
)
# Hooks that look, write or draw, and change nothing of what is trained.
_WATCHING = re.compile(
    r"(?:\w+\.)*(?:Logger|Checkpoint|\w*Visualization|IterTimer|RuntimeInfo|EmptyCache|MemoryProfiler|Profiler"
    r"|NPUProfiler|NumClassCheck|CheckInvalidLoss|PrepareTTA|EarlyStoppingLog)Hook"
)


def shaping_key(config: str | None, engine: str | None, *, batch_is_told: bool, network: str = "") -> str:
    """Twelve digits that are equal where two configurations shape numbers alike; "" where there is none.

    engine: says the language. batch_is_told: the recipe says how many images an optimiser step sees. network: its name
    in the record; where that is none of the toolbox's own words for its backbone, the row tells of the backbone, and
    nothing of it counts here. What cannot be read counts as its text, without the lines of seed and folder.
    """
    return _key(without_one_run(config), engine, batch_is_told, network) if config else ""


def keeps_statistics(config: str | None, engine: str | None, *, has_weights: bool) -> bool:
    """Whether the backbone's batch norms use and keep their statistics while training, which MMDetection alone asks."""
    if engine != "mmdet" or not config:
        return False
    backbone = value_at(read_config(without_one_run(config), engine), "model.backbone")
    if not isinstance(backbone, dict):
        return False
    asked = backbone.get("norm_eval")
    if not str(backbone.get("type")).endswith("RexDetBackbone"):
        return bool(asked)
    return has_weights if asked is None else bool(asked)


@lru_cache(maxsize=4096)
def _key(text: str, engine: str | None, batch_is_told: bool, network: str) -> str:
    values = read_config(text, engine)
    if values is not None:
        left_out = _pattern((*_rules(values, engine, network), *(_BATCH if batch_is_told else ())))
        try:
            return content_key({"config": _shaping(_with_our_builder(values, network), "", left_out)})
        except RecursionError:
            # A text that holds itself, or is nested as no configuration is: told apart as a text.
            pass
    return content_key({"text": text})


def _rules(values: dict[str, Any], engine: str | None, network: str) -> tuple[str, ...]:
    """What is left out, by the language. Of a backbone that the row does not name in words of ours all counts."""
    if engine == "mmdet":
        kind = str(value_at(values, "model.backbone.type"))
        is_ours, is_named = kind.endswith("RexDetBackbone"), network not in ("", kind)
        # SSDLite's neck hands the backbone's maps on: their widths are the network's.
        is_ssd = str(value_at(values, "model.neck.type")).endswith("SSDNeck")
        widths = ("model.neck.out_channels",) if is_ssd else ()
        backbone = _MMENGINE_BACKBONE if is_ours else _MMENGINE_OTHER if is_named else ()
        return (*_ANYWHERE, *_MMENGINE, *backbone, *widths)
    if "dataloader" in values:
        is_ours = value_at(values, "model.backbone.bottom_up.name") is not None
        is_named = network not in ("", str(value_at(values, "model.backbone.bottom_up._target_")))
        return (*_ANYWHERE, *_LAZY, *(_LAZY_BACKBONE if is_ours else _LAZY_OTHER if is_named else ()))
    builder = value_at(values, "MODEL.BACKBONE.NAME")
    is_told = builder is None or "rexdet" in str(builder) or (builder in _OUR_BUILDERS and network not in ("", builder))
    return (*_ANYWHERE, *_DETECTRON2, *(_DETECTRON2_BACKBONE if is_told else ()))


def _with_our_builder(values: dict[str, Any], network: str) -> dict[str, Any]:
    """The values of a detectron2 configuration with our builder of the same neck over a network that the row names."""
    builder = value_at(values, "MODEL.BACKBONE.NAME")
    ours = _OUR_BUILDERS.get(builder) if isinstance(builder, str) and network not in ("", builder) else None
    if ours is None:
        return values
    model = values["MODEL"]
    return {**values, "MODEL": {**model, "BACKBONE": {**model["BACKBONE"], "NAME": ours}}}


@lru_cache(maxsize=64)
def _pattern(paths: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(path) for path in paths))


def _shaping(value: Any, path: str, left_out: re.Pattern[str]) -> Any:
    """The values without what is left out, as JSON holds them; whole numbers are the same with and without a point."""
    if isinstance(value, dict):
        inner = {str(key): (f"{path}.{key}" if path else str(key), item) for key, item in value.items()}
        return {
            key: _shaping(item, place, left_out)
            for key, (place, item) in inner.items()
            if not left_out.match(place) and not _is_watching(item)
        }
    if isinstance(value, list):
        items = (item for item in value if not _is_watching(item))
        return [_shaping(item, f"{path}.{place}", left_out) for place, item in enumerate(items)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _is_watching(value: Any) -> bool:
    return isinstance(value, dict) and _WATCHING.fullmatch(str(value.get("type"))) is not None
