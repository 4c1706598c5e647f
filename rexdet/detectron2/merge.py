"""Merging a file and KEY VALUE pairs into a config, with mistakes told in one line that names what was meant."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from rexdet.errors import UserError


def merge_config(cfg: CfgNode, file: str | Path | None = None, pairs: Sequence[Any] = ()) -> None:
    """Merge a YAML file (with its `_BASE_` files) and then KEY VALUE pairs into `cfg`, in place.

    file: a detectron2 YAML, or None. As in detectron2 it may compute values, so it is as trusted as a program.
    pairs: ["MODEL.REXDET.NAME", "rexnet_1.3", ...]; texts are read as Python or YAML values, as on a command line.
    Raises UserError for a file that is missing or no YAML, a key that does not exist (the nearest ones are named), and
    a value of another type than the key's.
    """
    if file is not None:
        _merge_file(cfg, Path(file))
    _merge_pairs(cfg, list(pairs))


def near_keys(cfg: CfgNode, key: str) -> list[str]:
    """Up to three keys of `cfg` that `key` may have been meant to be, the nearest first."""
    place, _, last = key.rpartition(".")
    siblings = [name for name in _all_keys(cfg) if name.rpartition(".")[0] == place]
    by_case = {name.rpartition(".")[2].lower(): name for name in siblings}
    near = [by_case[name] for name in difflib.get_close_matches(last.lower(), by_case, n=3, cutoff=0.5)]
    if near:
        return near
    everywhere = {name.lower(): name for name in _all_keys(cfg)}
    return [everywhere[name] for name in difflib.get_close_matches(key.lower(), everywhere, n=3, cutoff=0.6)]


def _merge_file(cfg: CfgNode, file: Path) -> None:
    if not file.is_file():
        raise UserError("no such config", str(file), "check the path")
    try:
        cfg.merge_from_file(str(file))
    except yaml.YAMLError as error:
        raise UserError(f"is no YAML: {_first_line(error)}", str(file)) from error
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError, OSError) as error:
        raise _explain(cfg, _contents(cfg, file, error), str(file), error) from error


def _merge_pairs(cfg: CfgNode, pairs: list[Any]) -> None:
    if len(pairs) % 2:
        raise UserError(f"{' '.join(map(str, pairs))!r} is not KEY VALUE pairs: {pairs[-1]} has no value")
    for key, text in zip(pairs[::2], pairs[1::2], strict=True):
        value = _parse(text)
        if type(value) is int and isinstance(_look_up(cfg, str(key))[1], float):
            value = float(value)
        try:
            cfg.merge_from_list([key, value])
        except (KeyError, ValueError, AssertionError, TypeError, AttributeError) as error:
            raise _explain(cfg, [(str(key), value)], "", error) from error


def _parse(text: Any) -> Any:
    """A command line's text as a value: [res3, res4] too, which is YAML but not Python."""
    value = _decode(text)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            return value
    return value


def _decode(text: Any) -> Any:
    """A text that is a Python literal as its value, as yacs reads it; anything else as it is."""
    try:
        return ast.literal_eval(text) if isinstance(text, str) else text
    except (ValueError, SyntaxError):
        return text


def _contents(cfg: CfgNode, file: Path, cause: Exception) -> list[tuple[str, Any]]:
    try:
        return list(_leaves(cfg.load_yaml_with_base(str(file), allow_unsafe=True)))
    except (OSError, KeyError, ValueError, AssertionError, TypeError, AttributeError) as error:
        raise UserError(f"cannot be read as a config: {_first_line(error)}", str(file)) from cause


def _explain(cfg: CfgNode, given: list[tuple[str, Any]], where: str, cause: Exception) -> UserError:
    """What is wrong with the first of the given keys that does not fit `cfg`."""
    for key, value in given:
        known, current = _look_up(cfg, key)
        if not known:
            near = near_keys(cfg, key)
            return UserError(f"there is no key {key}", where, f"did you mean {' or '.join(near)}?" if near else "")
        if isinstance(current, CfgNode) and not isinstance(value, Mapping):
            return UserError(f"{key} holds further keys, not a value", where, f"it has {', '.join(current)}")
        if not _fits(value, current):
            return UserError(
                f"{key} is {value!r}, a {_kind(value)}, but must be a {_kind(current)}",
                where,
                _as_it_should_be(value, current),
            )
    return UserError(f"does not fit detectron2's config: {_first_line(cause)}", where)


def _leaves(content: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, _decode(value)


def _all_keys(cfg: CfgNode, place: str = "") -> Iterator[str]:
    for key, value in cfg.items():
        name = f"{place}.{key}" if place else key
        yield name
        if isinstance(value, CfgNode):
            yield from _all_keys(value, name)


def _look_up(cfg: CfgNode, key: str) -> tuple[bool, Any]:
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return False, None
        node = node[part]
    return True, node


def _fits(value: Any, current: Any) -> bool:
    """Whether yacs would take `value` where `current` stands: the same type, lists and tuples alike, and None."""
    if isinstance(current, CfgNode):
        return isinstance(value, Mapping)
    sequences = (list, tuple)
    return (
        value is None
        or current is None
        or type(value) is type(current)
        or (isinstance(value, sequences) and isinstance(current, sequences))
    )


def _kind(value: Any) -> str:
    names = {
        str: "text",
        bool: "True or False",
        int: "whole number",
        float: "number with a point",
        list: "list",
        tuple: "list",
    }
    return names.get(type(value), type(value).__name__)


def _as_it_should_be(value: Any, current: Any) -> str:
    if isinstance(current, list | tuple):
        return f"write [{value}]"
    if isinstance(current, float) and isinstance(value, int):
        return f"write {float(value)}"
    if isinstance(current, str):
        return f'write "{value}" in quotes'
    return f"write it as {current!r} is written"


def _first_line(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
