"""Pickles without trust: what classes one names (told without running it), and a reader that builds arrays alone.

A pickle is a program. Nothing here runs one: `named_classes` reads the instructions, and `read_arrays` runs them with
an unpickler that knows NumPy arrays, dictionaries, lists, numbers and strings, and stops at any other name.
"""

from __future__ import annotations

import codecs
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from rexdet.errors import UserError

# What torch writes for tensors and their containers; anything else in a torch file is somebody's own object.
_TENSOR_MODULES = (
    "torch",
    "torch._utils",
    "torch._tensor",
    "torch.storage",
    "torch.nn.parameter",
    "torch.serialization",
)
_PLAIN_CLASSES = {("collections", "OrderedDict"), ("__builtin__", "set"), ("builtins", "set"), ("_codecs", "encode")}
_TEXT_OPCODES = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")


class RefusedClassError(Exception):
    """A pickle names a class that is not a plain value; `name` is the class in dotted form."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def named_classes(stream: IO[bytes]) -> list[tuple[str, str]]:
    """(module, name) of every class or function that the pickle at the stream's position names, in order of appearance.

    The instructions are read and not run. A stream that ends early or holds no pickle gives those seen until then.
    """
    found: list[tuple[str, str]] = []
    recent: list[str] = []
    remembered: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                found.append((module, name))
            elif opcode.name == "STACK_GLOBAL" and len(recent) >= 2:
                found.append((recent[-2], recent[-1]))
            elif opcode.name in _TEXT_OPCODES:
                recent.append(str(argument))
            elif opcode.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                index = len(remembered) if argument is None else int(str(argument))
                remembered[index] = recent[-1] if recent else ""
            elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
                recent.append(remembered.get(int(str(argument)), ""))
    except (ValueError, EOFError, IndexError, MemoryError, OverflowError, zipfile.BadZipFile):
        pass  # A damaged pickle is reported by whoever tries to read it; here only its names count.
    return list(dict.fromkeys(found))


def foreign_class(stream: IO[bytes], pickles: int = 1) -> str | None:
    """The first class in the next `pickles` pickles of a stream that a file of tensors has no use for, or None."""
    for _ in range(pickles):
        for module, name in named_classes(stream):
            if module not in _TENSOR_MODULES and (module, name) not in _PLAIN_CLASSES:
                return f"{module}.{name}"
    return None


def read_arrays(path: Path) -> Any:
    """What a pickle of plain values and NumPy arrays holds (detectron2's and Caffe2's `.pkl`).

    Raises RefusedClassError for any other class, UserError for a damaged pickle.
    """
    with open(path, "rb") as stream:
        try:
            return _ArrayUnpickler(stream, encoding="latin1").load()
        except RefusedClassError:
            raise
        except Exception as error:  # Damaged instructions fail in any way: nothing of ours is run in between.
            raise UserError(f"is a damaged pickle ({error})", where=str(path), fix="fetch it again") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        for allowed_modules, allowed_name, value in _allowed():
            if name == allowed_name and module in allowed_modules:
                return value
        raise RefusedClassError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise RefusedClassError("a reference to data outside of the pickle")


_NUMPY_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_NUMPY_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")


def _allowed() -> Iterator[tuple[tuple[str, ...], str, Callable[..., Any]]]:
    yield _NUMPY_CORE, "_reconstruct", _empty_array
    yield _NUMPY_CORE, "scalar", _scalar
    yield _NUMPY_NUMERIC, "_frombuffer", _array_of_bytes
    yield ("numpy",), "ndarray", np.ndarray
    yield ("numpy",), "dtype", _plain_dtype
    yield ("collections",), "OrderedDict", OrderedDict
    yield ("_codecs",), "encode", _encode_latin1


def _plain_dtype(*arguments: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(*arguments)
    if dtype.hasobject:
        raise RefusedClassError("numpy.dtype of Python objects")
    return dtype


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes | str) -> np.ndarray[Any, Any]:
    if kind is not np.ndarray:
        raise RefusedClassError(f"{kind.__module__}.{kind.__qualname__}")
    return np.ndarray((0,), np.uint8)


def _array_of_bytes(
    data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str, axes: tuple[int, ...] | None = None
) -> np.ndarray[Any, Any]:
    """An array as protocol 5 writes it: its bytes in C, Fortran or another order of the axes ("K")."""
    flat = np.frombuffer(data, dtype=dtype)
    if axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: np.dtype[Any], data: bytes | str = b"") -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, dtype=dtype, count=1)[0]


def _encode_latin1(text: str, encoding: str = "latin1", *_: Any) -> bytes:
    # Protocol 2 writes bytes as text to be encoded; other codecs could unpack a small file into a huge one.
    if codecs.lookup(encoding).name != "iso8859-1":
        raise RefusedClassError(f"_codecs.encode with {encoding}")
    return text.encode("latin1")
