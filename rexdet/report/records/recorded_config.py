"""A recorded configuration as plain values: detectron2's YAML, its LazyConfigs, and mmengine's Python text.

Nothing is executed. What is no configuration in the language that it should be gives None.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any

import yaml

from rexdet.fast_yaml import LOADER

_PYTHON = "mmdet"
# Seed and folder, which differ from run to run: whole lines, with the lines that a long folder goes on in.
_OF_ONE_RUN = re.compile(
    r"^(?:(?:SEED|OUTPUT_DIR):[^\n]*(?:\n [^\n]*)*|  (?:seed|output_dir):[^\n]*(?:\n {3,}[^\n]*)*"
    r"|(?:work_dir|randomness) = [^\n]*)\n?",
    re.MULTILINE,
)


# All that is asked of one record asks for its text again.
@lru_cache(maxsize=16)
def without_one_run(config: str) -> str:
    """The text without the seed and the folder of the run, so that the runs of a sweep share one text."""
    return _OF_ONE_RUN.sub("", config)


def read_yaml(text: str) -> Any:
    """The values of a YAML text; None where it is none, or where a value cannot be (a thirteenth month)."""
    try:
        return yaml.load(text, LOADER)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError):
        # Not YAML's own errors alone: a date that does not exist is Python's ValueError.
        return None


@lru_cache(maxsize=4096)
def read_config(text: str, engine: str | None) -> dict[str, Any] | None:
    """The values of a configuration; None where it cannot be read. They are shared: not to be changed."""
    found = _read_python(text) if engine == _PYTHON else read_yaml(text)
    return found if isinstance(found, dict) and found else None


def value_at(config: dict[str, Any] | None, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _read_python(text: str) -> dict[str, Any] | None:
    try:
        statements = ast.parse(text).body
        return {
            statement.targets[0].id: _value(statement.value)
            for statement in statements
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Any:
    """dict(...), braces, lists, tuples and literals as values; any other expression as its text."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            _value(key) if isinstance(key, ast.Constant) else ast.unparse(key or value): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        parts = [_value(part) for part in node.args]
        parts += [{word.arg: _value(word.value)} if word.arg else _value(word.value) for word in node.keywords]
        if all(isinstance(part, dict) for part in parts):
            return {key: value for part in parts for key, value in part.items()}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        if isinstance(number, int | float):
            return -number
    return ast.unparse(node)
