"""Weights for detectron2's own backbones (the ResNet-50 baselines), opened our way: verified, and never as code.

detectron2's checkpointer would run a pickle and train on where names do not match. Here the file is read through an
allow-list, its names are matched by detectron2's own rules, and a backbone that is not filled is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.weights.cache import RemoteFile, fetch
from rexdet.weights.formats import read_file

CATALOGUE = "detectron2://"
# Where that prefix points to (detectron2/utils/file_io.py).
CATALOGUE_URL = "https://dl.fbaipublicfiles.com/detectron2/"


def is_foreign(source: str) -> bool:
    """Whether a MODEL.WEIGHTS is an address of detectron2's model zoo."""
    return source.startswith(CATALOGUE)


def load_foreign(detector: nn.Module, source: str) -> list[str]:
    """Fill a detector over one of detectron2's own backbones from `source`; returns lines that tell what was loaded.

    source: a file, or detectron2://... (fetched once into the cache). Caffe2's and Detectron1's names are understood.
    Raises UserError: cannot be had or opened, or leaves a parameter of the backbone unfilled.
    """
    content = read_file(foreign_file(source)).value
    if not isinstance(content, Mapping):
        raise UserError("holds no named weights", where=source)
    weights = _tensors(content.get("model", content))
    own = detector.state_dict()
    found = align_and_update_state_dicts(own, weights, c2_conversion=content.get("__author__") == "Caffe2")
    parameters = [name for name, _ in detector.named_parameters() if name.startswith("backbone.bottom_up.")]
    missing = [name for name in parameters if name not in found]
    if missing or not parameters:
        what = f"does not fill {missing[0]}" if missing else "fits no backbone of this detector"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{what}{more}", where=source, fix="take the file that belongs to the config's backbone")
    wrong = [name for name in found if own[name].shape != found[name].shape]
    if wrong:
        shapes = f"{tuple(found[wrong[0]].shape)} there and {tuple(own[wrong[0]].shape)} here"
        raise UserError(f"{wrong[0]} is {shapes}", where=source)
    detector.load_state_dict(found, strict=False)
    return [f"{source}: {len(found)} tensors loaded, backbone {len(parameters)} of {len(parameters)}"]


def foreign_file(source: str) -> Path:
    """The file of weights for a backbone of detectron2's own, fetched once where it is an address of the model zoo."""
    return fetch(_remote(source)) if is_foreign(source) else Path(source)


def _remote(source: str) -> RemoteFile:
    place = source.removeprefix(CATALOGUE)
    return RemoteFile(url=CATALOGUE_URL + place, name=place.replace("/", "__"), title=source)


def _tensors(weights: Mapping[str, object]) -> dict[str, Tensor]:
    """The arrays among the values; what else such files hold (momentum blobs, notes) is no weight."""
    return {
        str(name): torch.as_tensor(value) for name, value in weights.items() if isinstance(value, Tensor | np.ndarray)
    }
