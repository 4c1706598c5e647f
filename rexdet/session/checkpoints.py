"""Checkpoints of a run: whole or not there, read without running anything, loaded strictly.

A checkpoint is a dict. Each engine says under which key the detector's weights stand and keeps beside them what going
on needs; under "rexdet" every checkpoint says what it is: its format, classes, network and pixels.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rexdet.errors import UserError
from rexdet.files import atomic_path, write_text_atomically
from rexdet.zoo.names import take_rule, without_tag

FORMAT = 1
LAST = "last_checkpoint"
FINAL = "model_final.pth"

Weights = Mapping[str, Tensor]


@dataclass
class Identity:
    """What a checkpoint says of itself, so that it can be used without its run: classes, network, pixels."""

    class_names: list[str]
    category_ids: list[int]
    backbone: str
    norm: str
    freeze_at: int
    config: str
    pixels: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "format": FORMAT,
            "classes": {"names": self.class_names, "ids": self.category_ids},
            "backbone": self.backbone,
            "norm": self.norm,
            "freeze_at": self.freeze_at,
            "config": self.config,
            "pixels": self.pixels,
        }


def save_checkpoint(folder: Path, name: str, content: dict[str, Any], *, key: str = "model") -> Path:
    """Write a checkpoint into `folder`, read it back, and only then let it count as the last one.

    key: under which the weights stand, which are compared with what was read back.
    Raises OSError where the disk refuses, RuntimeError where what was read back is not what was written.
    """
    path = folder / name
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
        _verify(temporary, content[key], key)
    write_text_atomically(folder / LAST, name)
    return path


def _verify(path: Path, weights: Weights, key: str) -> None:
    back = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[key]
    for name, tensor in weights.items():
        if name not in back or (not torch.equal(back[name].cpu(), tensor.detach().cpu()) and _finite(tensor)):
            raise RuntimeError(f"the checkpoint that was just written does not hold {name} as it is in memory")


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def read_checkpoint(path: str | Path, *, key: str = "model") -> dict[str, Any]:
    """Open a detector's checkpoint on the CPU, without running any code that it may hold.

    key: under which the weights stand.
    Raises UserError: not there, not whole, holds classes, or no checkpoint of a detector.
    """
    where = str(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError("no such checkpoint", where=where) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise UserError(f"cannot be opened as a checkpoint: {_first_line(error)}", where=where) from None
    if not isinstance(content, dict) or key not in content:
        raise UserError(f"is no checkpoint of a detector: there is no {key!r} inside", where=where)
    return content


def _first_line(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
    if found:
        return f"it holds an object of the class {found.group(1)}, and only tensors and plain values are opened"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def is_own(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written by this package."""
    return isinstance(content.get("rexdet"), Mapping) and content["rexdet"].get("format") == FORMAT


def classes_of(content: Mapping[str, Any] | None) -> tuple[list[str], list[int]] | None:
    """Class names and category ids in the order of a detector's outputs; None where its checkpoint does not say."""
    if content is None or not is_own(content):
        return None
    classes = content["rexdet"]["classes"]
    return list(classes["names"]), list(classes["ids"])


def newest_checkpoint(
    folder: Path, *, key: str = "model", pattern: str = "model_*.pth", state: str = "optimizer"
) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, and what had to be passed over to find it, a line each.

    It is the one that `last_checkpoint` names. Where that one is damaged or gone, the newest whole one before it.
    Parts of files that a kill left behind are removed.
    pattern: of the files' names, the final one's left out. state: a key that files of weights alone do not have.
    """
    for leftover in folder.glob(".*.partial"):
        leftover.unlink(missing_ok=True)
    candidates = sorted((path for path in folder.glob(pattern) if path.name != FINAL), key=_age, reverse=True)
    last = folder / LAST
    if last.exists():
        # mmengine writes the whole path there; a run's folder may have been moved since.
        named = folder / Path(last.read_text(encoding="utf-8").strip()).name
        candidates = [named, *(path for path in candidates if path != named)]
    passed: list[str] = []
    for path in candidates:
        try:
            content = read_checkpoint(path, key=key)
        except UserError as error:
            passed.append(str(error))
            continue
        if is_own(content) and state in content:
            return path, passed
        what = "weights alone" if is_own(content) else "not a checkpoint of a run of this package"
        passed.append(f"{path}: {what}")
    return None, passed


def _age(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, path.name


def check_resumable(content: Mapping[str, Any], where: str, needed: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise UserError where a checkpoint lacks what going on needs, or holds a companion state that nobody here knows.

    Going on without a state (averaged weights under another name, say) would train something else, in silence.
    """
    missing = [key for key in needed if key not in content]
    unknown = [key for key in content if key not in (*needed, *known)]
    if missing or unknown:
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"holds {', '.join(unknown)}, which is not known here"] if unknown else []
        raise UserError(
            f"cannot be resumed from: it {' and '.join(faults)} (its keys: {', '.join(content)})",
            where=where,
            fix="start a new run from its weights with --weights",
        )


def check_rule(backbone: str, identity: Mapping[str, Any], where: str, fix: str) -> None:
    """Raise UserError where the config's network has another N:M rule than that of the checkpoint `where`.

    backbone: the network that the config builds. identity: what the checkpoint says of itself. fix: with {network}.
    A rule changes what is computed and no tensor, so nothing else would notice.
    """
    saved, wanted = without_tag(str(identity.get("backbone", ""))), without_tag(backbone)
    if saved and take_rule(saved)[0] != take_rule(wanted)[0]:
        raise UserError(
            f"was trained over {saved}, and the config builds {wanted}: the same tensors, another function",
            where=where,
            fix=fix.format(network=saved),
        )


def load_detector(
    model: nn.Module,
    given: Weights,
    where: str,
    *,
    backbone: str,
    depends_on_classes: Callable[[str], bool],
    class_counts: Callable[[list[str], Weights, Weights], tuple[int, int]],
) -> list[str]:
    """Fill a whole detector strictly; returns lines that tell what was loaded.

    given: the weights by name. backbone: what the names of the backbone's tensors begin with.
    depends_on_classes: whether a tensor of that name has another shape where there are other classes.
    class_counts: (names that were reset, the detector's own weights, the given ones) -> (classes there, classes here).

    Class-dependent layers whose number of classes differs keep their random start, and a line says so. Anything else
    that is missing, unexpected or of another shape is an error that names it. Raises UserError.
    """
    weights = strip_prefix(given)
    own = model.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in own and not key.endswith("num_batches_tracked")]
    different = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    resettable = [key for key in different if depends_on_classes(key)]
    wrong = [key for key in different if key not in resettable]
    in_backbone = [key for key in own if key.startswith(backbone)]
    if missing or unexpected or wrong:
        raise UserError(_mismatch(missing, unexpected, wrong, own, weights), where=where)
    bad = [key for key, value in weights.items() if value.is_floating_point() and not _finite(value)]
    if bad:
        raise UserError(f"{bad[0]} holds numbers that are not finite", where=where)
    model.load_state_dict({k: v for k, v in weights.items() if k in own and k not in resettable}, strict=False)
    count = len(own) - len(resettable)
    lines = [f"{where}: {count} of {len(own)} tensors loaded, backbone {len(in_backbone)} of {len(in_backbone)}"]
    if resettable:
        old, new = class_counts(resettable, own, weights)
        lines.append(f"head reset because classes {old} -> {new} (expected): {len(resettable)} tensors start at random")
    return lines


def strip_prefix(weights: Weights) -> dict[str, Tensor]:
    """A state dict without the `module.` that wrappers for several processes put before every key."""
    if weights and all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return dict(weights)


def _mismatch(missing: list[str], unexpected: list[str], wrong: list[str], own: Weights, weights: Weights) -> str:
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
