"""State that a model keeps in plain attributes, where no state dict looks.

detectron2's RetinaNet and its kin average the number of positive anchors over steps in an attribute of the module. A
run that goes on without that number computes other losses, so it belongs into a checkpoint like the weights.
"""

from __future__ import annotations

from torch import nn

Numbers = dict[str, float]


def plain_numbers(model: nn.Module) -> Numbers:
    """Every number that a module of `model` holds as a plain attribute: "path:attribute" -> value."""
    return {
        f"{path}:{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def moved_numbers(model: nn.Module, before: Numbers) -> Numbers:
    """Those numbers that have changed, or appeared, since `before` was taken with `plain_numbers`."""
    return {key: value for key, value in plain_numbers(model).items() if before.get(key) != value}


def set_numbers(model: nn.Module, numbers: Numbers) -> None:
    """Put numbers back where `moved_numbers` found them."""
    for key, value in numbers.items():
        path, _, name = key.rpartition(":")
        setattr(model.get_submodule(path), name, value)
