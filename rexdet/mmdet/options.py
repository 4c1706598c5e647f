"""`--cfg-options KEY=VALUE ...`, with MMDetection's own rules for values and a check of the keys."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mmengine.config import Config, DictAction

from rexdet.errors import UserError

# Keys at the top of a config that mmengine's runner reads and that a config may leave out.
_TOP = (
    "activation_checkpointing", "auto_scale_lr", "compile", "custom_hooks", "custom_imports", "default_hooks",
    "default_scope", "efficient_conv_bn_eval", "env_cfg", "experiment_name", "find_unused_parameters", "load_from",
    "log_level", "log_processor", "model_wrapper_cfg", "optim_wrapper", "param_scheduler", "randomness", "resume",
    "sync_bn", "test_cfg", "test_dataloader", "test_evaluator", "train_cfg", "train_dataloader", "val_cfg",
    "val_dataloader", "val_evaluator", "vis_backends", "visualizer", "work_dir",
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message, where="--cfg-options", fix="write KEY=VALUE")


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """The words behind --cfg-options as key -> value, as MMDetection's own tools read them. Raises UserError."""
    for word in words:
        if not word.partition("=")[1] or not word.partition("=")[0]:
            raise UserError(f"{word!r} is not KEY=VALUE", where="--cfg-options")
    if not words:
        return {}
    parser = _Parser(add_help=False)
    parser.add_argument("--cfg-options", nargs="+", action=DictAction)
    return dict(parser.parse_args(["--cfg-options", *words]).cfg_options)


def typed_keys(words: Sequence[str]) -> set[str]:
    """The keys that somebody typed."""
    return {word.partition("=")[0] for word in words}


def merge_options(cfg: Config, words: Sequence[str]) -> None:
    """Put --cfg-options into a config, in place. Raises UserError for a key whose place the config does not have.

    mmengine would make the place, and nothing would ever read it.
    """
    options = read_options(words)
    for key in options:
        _check_place(cfg, key)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise UserError(f"cannot be merged into the config: {error}", where="--cfg-options") from None


def _check_place(cfg: Config, key: str) -> None:
    *path, last = key.split(".")
    node: Any = cfg
    for depth, part in enumerate([*path, last]):
        known = _keys(node)
        if part in known:
            node = node[int(part)] if isinstance(node, Sequence) else node[part]
            continue
        # A new key in a part that exists is an argument that has its default so far.
        is_new_argument = depth == len(path) and depth > 0 and isinstance(node, Mapping)
        if is_new_argument or (depth == 0 and part in _TOP) or node is None:
            return
        near = difflib.get_close_matches(part, known or _TOP, n=3, cutoff=0.5)
        where = ".".join(path[:depth]) or "the config"
        raise UserError(
            f"{where} has no {part!r}",
            where=f"--cfg-options {key}",
            fix=f"near names: {', '.join(near)}" if near else "",
        )


def _keys(node: Any) -> list[str]:
    if isinstance(node, Mapping | Config):
        return [str(key) for key in node.keys()]  # noqa: SIM118 - a Config is no mapping
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [str(index) for index in range(len(node))]
    return []
