"""Checkpoints of a run: everything that going on bit-identically needs, in one file that is whole or not there.

A checkpoint holds tensors, numbers, strings, lists and dicts, so that `torch.load(weights_only=True)` opens it with no
allow-list. The weights under "model" are those that an evaluation takes: the averaged ones where there are such, and
then "raw" holds the ones that training goes on with.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.files import atomic_path, write_text_atomically

FORMAT = 1
LAST = "last_checkpoint"
FINAL = "model_final.pth"
_STEP_FILE = re.compile(r"model_(\d{7})\.pth")


def step_file(iteration: int) -> str:
    """The name of the checkpoint written after `iteration`, counted from 0 as detectron2 does."""
    return f"model_{iteration:07d}.pth"


def save_checkpoint(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Write a checkpoint into `folder`, read it back, and only then let it count as the last one.

    Raises OSError where the disk refuses, RuntimeError where what was read back is not what was written.
    """
    path = folder / name
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
        _verify(temporary, content["model"])
    write_text_atomically(folder / LAST, name)
    return path


def _verify(path: Path, weights: Mapping[str, Tensor]) -> None:
    back = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
    for name, tensor in weights.items():
        if name not in back or (not torch.equal(back[name].cpu(), tensor.detach().cpu()) and _finite(tensor)):
            raise RuntimeError(f"the checkpoint that was just written does not hold {name} as it is in memory")


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Open a checkpoint of ours on the CPU, without running any code that it may hold.

    Raises UserError: not there, not whole, holds classes, or not a checkpoint of this format.
    """
    where = str(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError("no such checkpoint", where=where) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"cannot be opened as a checkpoint: {_first_line(error)}", where=where) from None
    if not isinstance(content, dict) or "model" not in content:
        raise UserError("is no checkpoint of a detector: there is no 'model' inside", where=where)
    return content


def _first_line(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
    if found:
        return f"it holds an object of the class {found.group(1)}, and only tensors and plain values are opened"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def is_own(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written by this package."""
    return isinstance(content.get("rexdet"), Mapping) and content["rexdet"].get("format") == FORMAT


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, and what had to be passed over to find it, a line each.

    It is the one that `last_checkpoint` names. Where that one is damaged or gone, the newest whole one before it.
    Parts of files that a kill left behind are removed.
    """
    for leftover in folder.glob(".*.partial"):
        leftover.unlink(missing_ok=True)
    candidates = sorted((p for p in folder.glob("model_*.pth") if _STEP_FILE.fullmatch(p.name)), reverse=True)
    last = folder / LAST
    if last.exists():
        named = folder / last.read_text(encoding="utf-8").strip()
        candidates = [named, *(p for p in candidates if p != named)]
    passed: list[str] = []
    for path in candidates:
        try:
            content = read_checkpoint(path)
        except UserError as error:
            passed.append(str(error))
            continue
        if is_own(content):
            return path, passed
        passed.append(f"{path}: not a checkpoint of a run of this package")
    return None, passed


RESUME_KEYS = ("model", "optimizer", "scheduler", "iteration", "sampler", "random", "time", "numbers")
COMPANION_KEYS = ("rexdet", "ema", "raw", "scaler")


def check_resumable(content: Mapping[str, Any], where: str) -> None:
    """Raise UserError where a checkpoint lacks what going on needs, or holds a companion state that nobody here knows.

    Going on without a state (averaged weights under another name, say) would train something else, in silence.
    """
    missing = [key for key in RESUME_KEYS if key not in content]
    unknown = [key for key in content if key not in (*RESUME_KEYS, *COMPANION_KEYS)]
    if missing or unknown:
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"holds {', '.join(unknown)}, which is not known here"] if unknown else []
        raise UserError(
            f"cannot be resumed from: it {' and '.join(faults)} (its keys: {', '.join(content)})",
            where=where,
            fix="start a new run from its weights with --weights",
        )


def load_detector(model: nn.Module, content: Mapping[str, Any], where: str) -> list[str]:
    """Fill a whole detector from a checkpoint, strictly; returns lines that tell what was loaded.

    Class-dependent layers whose number of classes differs keep their random start, and a line says so. Anything else
    that is missing, unexpected or of another shape is an error that names it. Raises UserError.
    """
    weights = strip_prefix(content["model"])
    own = model.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in own and not key.endswith("num_batches_tracked")]
    different = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    resettable = [key for key in different if _depends_on_classes(key)]
    wrong = [key for key in different if key not in resettable]
    backbone = [key for key in own if key.startswith("backbone.bottom_up.")]
    if missing or unexpected or wrong:
        raise UserError(_mismatch(missing, unexpected, wrong, own, weights), where=where)
    bad = [key for key, value in weights.items() if value.is_floating_point() and not _finite(value)]
    if bad:
        raise UserError(f"{bad[0]} holds numbers that are not finite", where=where)
    model.load_state_dict({k: v for k, v in weights.items() if k in own and k not in resettable}, strict=False)
    count = len(own) - len(resettable)
    lines = [f"{where}: {count} of {len(own)} tensors loaded, backbone {len(backbone)} of {len(backbone)}"]
    if resettable:
        old, new = _class_counts(resettable, own, weights)
        lines.append(f"head reset because classes {old} -> {new} (expected): {len(resettable)} tensors start at random")
    return lines


def strip_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the `module.` that wrappers for several processes put before every key."""
    if weights and all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return dict(weights)


_CLASS_LAYERS = re.compile(r"(cls_score|bbox_pred|predictor)\.(weight|bias)$")


def _depends_on_classes(key: str) -> bool:
    return _CLASS_LAYERS.search(key) is not None


def _class_counts(keys: list[str], own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many classes the file has and the model has, read off a layer that was reset."""
    key = next((key for key in keys if "cls_score" in key), keys[0])
    return _classes_of(key, weights), _classes_of(key, own)


def _classes_of(key: str, weights: Mapping[str, Tensor]) -> int:
    outputs = weights[key].shape[0]
    if key.startswith("head."):
        # A dense head scores every class for every anchor, and has four box outputs an anchor.
        return outputs // max(weights[re.sub(r"cls_score", "bbox_pred", key)].shape[0] // 4, 1)
    if "cls_score" in key:
        # A region head has one output more, for the background.
        return outputs - 1
    return outputs // 4 if "bbox_pred" in key else outputs


def _mismatch(
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> str:
    parts = []
    if missing:
        parts.append(f"lacks {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""))
    if unexpected:
        more = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
        parts.append(f"has {unexpected[0]}{more}, which the detector of the config has not")
    if wrong:
        key = wrong[0]
        more = f", and {len(wrong) - 1} more tensors differ" if len(wrong) > 1 else ""
        parts.append(f"{key} is {tuple(weights[key].shape)} there and {tuple(own[key].shape)} here{more}")
    return f"does not fit the detector of the config: {'; '.join(parts)}"
