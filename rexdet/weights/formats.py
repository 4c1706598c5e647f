"""Files of weights -> what they hold, safely. The content decides what a file is, never its name.

Read are torch's files (zip and the older form), safetensors, and pickles of NumPy arrays (detectron2's and Caffe2's).
No pickle is ever executed beyond tensors and plain values.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rexdet.errors import UserError
from rexdet.weights.pickles import RefusedClassError, foreign_class, read_arrays

_TORCH_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# A legacy file is five pickles (magic, protocol, system, object, keys) and the data; classes stand in the fourth.
_TORCH_LEGACY_PICKLES = 4
_BLOCK = 1 << 20
_MAX_SAFETENSORS_HEADER = 100_000_000
_OTHER_STARTS = {
    b"\x1f\x8b": "gzip-compressed; unpack it",
    b"BZh": "bzip2-compressed; unpack it",
    b"\xfd7zXZ": "xz-compressed; unpack it",
    b"\x89HDF": "an HDF5 file (Keras); rexdet reads torch, safetensors and detectron2's .pkl",
    b"%PDF": "a PDF document",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"\x08\x07\x12": "an ONNX graph; rexdet reads torch, safetensors and detectron2's .pkl",
    b"\x08\x08\x12": "an ONNX graph; rexdet reads torch, safetensors and detectron2's .pkl",
}


@dataclass(frozen=True)
class FileContent:
    """What a file of weights holds.

    container: "torch", "torch (legacy)", "safetensors" or "pickle of arrays".
    value: nested dictionaries, lists, numbers, strings and CPU tensors.
    metadata: what a safetensors file says about itself (text to text).
    """

    container: str
    value: Any
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_file(path: str | Path) -> FileContent:
    """Read a file of weights. Tensors are on the CPU, memory-mapped where the format allows it.

    Raises UserError in one line for everything that is no such file: missing, empty, cut off, a web page, a Git LFS
    pointer, or a file whose pickle holds another class (which is named; nothing of it is executed).
    """
    path = Path(path)
    if path.is_dir():
        raise UserError("is a folder, not a file of weights", where=str(path), fix=_name_a_file_inside(path))
    try:
        with open(path, "rb") as stream:
            start = stream.read(512)
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError("no such file of weights", where=str(path), fix="check the path") from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path)) from error
    if size == 0:
        raise UserError("is empty (0 bytes)", where=str(path), fix="fetch it again")
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(path)
    if start.startswith(_TORCH_LEGACY_START):
        return _read_torch_legacy(path)
    if _looks_like_safetensors(start):
        return _read_safetensors(path, start, size)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _read_pickle(path)
    raise UserError(_what_else(start), where=str(path), fix="give a torch, safetensors or detectron2 .pkl file")


def _name_a_file_inside(folder: Path) -> str:
    endings = (".pth", ".pt", ".safetensors", ".pkl", ".th")
    inside = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(endings))
    return f"name one of its files: {', '.join(inside[:5])}" if inside else "name a file"


def _looks_like_safetensors(start: bytes) -> bool:
    return 2 <= int.from_bytes(start[:8], "little") <= _MAX_SAFETENSORS_HEADER and start[8:9] == b"{"


def _read_zip(path: Path) -> FileContent:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            object_name = next((name for name in names if name.endswith("/data.pkl") or name == "data.pkl"), None)
            if object_name is None:
                raise UserError("is a zip archive without torch's data.pkl", where=str(path), fix="unpack it")
            if any("/code/" in name for name in names):
                raise UserError(
                    "is a TorchScript program, not a file of weights", where=str(path), fix="save model.state_dict()"
                )
            with archive.open(object_name) as stream:
                foreign = foreign_class(stream)
            changed = _changed_entries(archive)
    except UserError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    if foreign is not None:
        raise _refused_class(path, foreign)
    if changed:
        raise _damaged(path, f"the check sum of {changed[0]} does not fit")
    return FileContent("torch", _torch_load(path, mmap=True))


def _changed_entries(archive: zipfile.ZipFile) -> list[str]:
    """Entries whose bytes are not those that were written.

    torch does not look at check sums, and can be told to write none that fit: where none fits, none says anything.
    """
    changed = []
    entries = archive.namelist()
    for entry in entries:
        try:
            with archive.open(entry) as stream:
                while stream.read(_BLOCK):
                    pass
        except zipfile.BadZipFile:
            changed.append(entry)
    return changed if len(changed) < len(entries) else []


def _read_torch_legacy(path: Path) -> FileContent:
    with open(path, "rb") as stream:
        foreign = foreign_class(stream, _TORCH_LEGACY_PICKLES)
    if foreign is not None:
        raise _refused_class(path, foreign)
    return FileContent("torch (legacy)", _torch_load(path, mmap=False))


def _torch_load(path: Path, *, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns about oddities of a file before it fails on them; the failure is told in one line.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()
        named = [line.strip() for line in reason if "Unsupported" in line]
        raise UserError(
            f"holds more than tensors and plain values ({named[0] if named else reason[0]})",
            where=str(path),
            fix="save its state_dict alone",
        ) from error
    except Exception as error:  # A damaged file fails anywhere inside torch, in any way.
        raise _damaged(path, error) from error


def _read_safetensors(path: Path, start: bytes, size: int) -> FileContent:
    header = int.from_bytes(start[:8], "little")
    if header + 8 > size:
        raise _damaged(path, "the header alone is longer than the file")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 - no mapping
            metadata = dict(archive.metadata() or {})
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise _damaged(path, error) from error
    return FileContent("safetensors", tensors, metadata)


def _read_pickle(path: Path) -> FileContent:
    try:
        value = read_arrays(path)
    except RefusedClassError as error:
        raise _refused_class(path, error.name) from error
    return FileContent("pickle of arrays", _to_tensors(value, path))


def _to_tensors(value: Any, path: Path) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            return None
        # A copy: arrays from a pickle may be read-only or in another byte order, and torch knows neither.
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
    if isinstance(value, Mapping):
        return {key: _to_tensors(inner, path) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_tensors(inner, path) for inner in value]
    return value


def _refused_class(path: Path, name: str) -> UserError:
    return UserError(
        f"holds an object of class {name}, and loading it would run code: refused, nothing was executed",
        where=str(path),
        fix="save its state_dict alone, where its code is trusted",
    )


def _damaged(path: Path, error: object) -> UserError:
    reason = str(error).strip().splitlines()
    return UserError(
        f"is damaged or cut off ({reason[0][:160] if reason else type(error).__name__})",
        where=str(path),
        fix="fetch or copy it again",
    )


def _what_else(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "is a web page, not a file of weights (a download page was saved under this name)"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself (run `git lfs pull`)"
    for beginning, meaning in _OTHER_STARTS.items():
        if start.startswith(beginning):
            return f"is no file of weights: it is {meaning}"
    if start[257:262] == b"ustar":
        return "is no file of weights: it is a tar archive; unpack it"
    if not any(start.strip(b"\0")):
        return "is no file of weights: it starts with zeros (an unfinished download?)"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return f"is no file of weights: it is text that starts with {start[:40].decode()!r}"
    return f"is no file of weights that rexdet knows (it starts with {start[:8].hex(' ')})"
