"""The way of a picture file through each engine's own pipeline, in parts that can be run apart.

Pictures are uint8 (H, W, 3) in BGR, MMDetection's order, so that the two can be subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rexdet.coco.annotations import CocoDataset
from rexdet.configs import get_config
from rexdet.errors import UserError

MMDET_CONFIG = "mmdet/retinanet_rexnet"


def check_installed() -> None:
    """Raise UserError where one of the engines is missing, with the command that brings it."""
    from importlib.util import find_spec

    for module, command in (("detectron2", "make setup"), ("mmdet", "make setup-mmdet")):
        if find_spec(module) is None:
            raise UserError(f"the engines are compared where both are installed, and {module} is not", fix=command)


@contextmanager
def mmdet_scope() -> Iterator[None]:
    """Inside, short names in configs mean MMDetection's classes, and ours that are registered there."""
    from mmengine.registry import DefaultScope

    import rexdet.mmdet  # noqa: F401  (registers them)

    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def mmdet_pipeline(scale: tuple[int, int] | None) -> list[dict[str, Any]]:
    """MMDetection's test pipeline as the shipped config has it.

    scale: (longest, shortest) side that the resize aims at; None: without a resize.
    """
    from rexdet.mmdet.plan import read_config

    steps = [dict(step) for step in read_config(get_config(MMDET_CONFIG)).test_pipeline]
    for step in steps:
        if step["type"] == "Resize" and scale is not None:
            step["scale"] = scale
    return [step for step in steps if scale is not None or step["type"] != "Resize"]


def detectron2_resize(scale: tuple[int, int] | None) -> list[Any]:
    """detectron2's resize at test time; scale as in `mmdet_pipeline`."""
    from detectron2.data import transforms as T

    return [] if scale is None else [T.ResizeShortestEdge([scale[1], scale[1]], scale[0], "choice")]


class Detectron2Way:
    """index -> a picture of a data set as detectron2's network gets it, uint8 (H', W', 3) BGR."""

    def __init__(self, dataset: CocoDataset, scale: tuple[int, int] | None) -> None:
        from rexdet.detectron2.data import EvaluationSet

        self.pictures = EvaluationSet(dataset, detectron2_resize(scale), image_format="BGR")

    def __call__(self, index: int) -> np.ndarray:
        inputs = self.pictures[index]
        return _as_picture(inputs, "image")


class MMDetectionWay:
    """index -> a picture of a data set as MMDetection's data preprocessor gets it, uint8 (H', W', 3) BGR."""

    def __init__(self, dataset: CocoDataset, scale: tuple[int, int] | None) -> None:
        from rexdet.mmdet.data import EvaluationSet

        self.pictures = EvaluationSet(dataset, mmdet_pipeline(scale))

    def __call__(self, index: int) -> np.ndarray:
        return _as_picture(self.pictures[index], "inputs")


def _as_picture(inputs: Mapping[str, Any], key: str) -> np.ndarray:
    if "unreadable" in inputs:
        raise UserError(inputs["unreadable"])
    tensor: Tensor = inputs[key]
    return tensor.permute(1, 2, 0).numpy()


def decoded_by_detectron2(path: str) -> np.ndarray:
    """What detectron2 itself reads from a file."""
    from detectron2.data.detection_utils import read_image

    picture: np.ndarray = read_image(path, "BGR")
    return picture


def decoded_by_mmdetection(path: str) -> np.ndarray:
    """What MMDetection itself reads from a file."""
    from mmcv.transforms import LoadImageFromFile

    picture: np.ndarray = LoadImageFromFile()({"img_path": path})["img"]
    return picture


def resized_by_detectron2(picture: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """detectron2's resize of a picture."""
    from detectron2.data import transforms as T

    inputs = T.AugInput(picture)
    T.AugmentationList(detectron2_resize(scale))(inputs)
    resized: np.ndarray = inputs.image
    return resized


def resized_by_mmdetection(picture: np.ndarray, scale: tuple[int, int], boxes: np.ndarray | None = None) -> Any:
    """MMDetection's resize of a picture; with `boxes`, float32 (N, 4) corners, those instead of the picture."""
    from mmdet.datasets.transforms import Resize
    from mmdet.structures.bbox import HorizontalBoxes

    results: dict[str, Any] = {"img": picture, "img_shape": picture.shape[:2]}
    if boxes is not None:
        results["gt_bboxes"] = HorizontalBoxes(torch.from_numpy(boxes.copy()))
    resized = Resize(scale=scale, keep_ratio=True)(results)
    return resized["img"] if boxes is None else resized["gt_bboxes"].tensor.numpy()


def boxes_by_detectron2(boxes: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]) -> np.ndarray:
    """detectron2's boxes after a resize from `size` to `new_size`, both (H, W)."""
    from detectron2.data import transforms as T

    moved: np.ndarray = T.ResizeTransform(*size, *new_size).apply_box(boxes.astype(np.float64))
    return moved


def size_by_detectron2(width: int, height: int, scale: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after detectron2's resize."""
    from detectron2.data import transforms as T

    new_height, new_width = T.ResizeShortestEdge.get_output_shape(height, width, scale[1], scale[0])
    return new_width, new_height


def size_by_mmdetection(width: int, height: int, scale: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after MMDetection's resize."""
    import mmcv

    new_width, new_height = mmcv.rescale_size((width, height), scale)
    return new_width, new_height


def network_input_of_detectron2(pictures: list[np.ndarray], mean: list[float], std: list[float]) -> Tensor:
    """detectron2's batch from BGR pictures, float32 (B, 3, H, W) in RGB: normalised, then padded to 32."""
    from detectron2.structures import ImageList

    tensors = [torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1))) for picture in pictures]
    shift, spread = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    batch: Tensor = ImageList.from_tensors([(tensor - shift) / spread for tensor in tensors], 32).tensor
    return batch


def network_input_of_mmdetection(pictures: list[np.ndarray], mean: list[float], std: list[float]) -> Tensor:
    """MMDetection's batch from BGR pictures, float32 (B, 3, H, W) in RGB, by its data preprocessor."""
    from mmdet.models.data_preprocessors import DetDataPreprocessor

    tensors = [torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))) for picture in pictures]
    preprocessor = DetDataPreprocessor(mean=mean, std=std, bgr_to_rgb=True, pad_size_divisor=32)
    batch: Tensor = preprocessor({"inputs": tensors, "data_samples": None}, False)["inputs"]
    return batch
