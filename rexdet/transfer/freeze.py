"""Parts of a network that do not learn while it is fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rexdet.errors import UserError
from rexdet.nets.features import Step


def freeze(network: nn.Module, what: str) -> list[nn.Module]:
    """Stop parts of a network from learning; returns the modules that must stay in evaluation mode while it trains.

    what: "none"; "norms" (batch norms keep their statistics, everything else learns); "1" to "5", stages as detectron2
    counts them (1 is the stem, 2 up to res2); "backbone" (everything but the classifier).
    Raises UserError for stages of a network of another package, and where its classifier cannot be told.
    """
    if what == "none":
        return []
    if what == "norms":
        return [module for module in network.modules() if is_norm(module)]
    if what == "backbone":
        head = classifier(network)
        learning = {id(parameter) for parameter in head.parameters()}
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        inside = {id(module) for module in head.modules()}
        return [module for module in network.modules() if is_norm(module) and id(module) not in inside]
    return _freeze_stages(network, int(what))


def _freeze_stages(network: nn.Module, count: int) -> list[nn.Module]:
    steps: Sequence[Step] | None = getattr(network, "steps", None)
    if steps is None:
        raise UserError("stages are known of rexdet's own networks only", "freeze", 'give "norms" or "backbone"')
    frozen = [network.get_submodule(step.path) for step in steps if step.stage <= count]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def classifier(network: nn.Module) -> nn.Module:
    """The module that gives the logits. Raises UserError where the network does not tell."""
    head = getattr(network, "head", None)
    if isinstance(head, nn.Module) and hasattr(network, "steps"):
        return head
    # timm's networks tell themselves.
    ask = getattr(network, "get_classifier", None)
    found = ask() if callable(ask) else None
    if isinstance(found, nn.Module):
        return found
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError("no classifier was found in the network", "freeze", 'give "none" or "norms"')
    return linear[-1]


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises by statistics of the batch while it trains."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def trains_norms(network: nn.Module) -> bool:
    """Whether a batch norm of the network is in training mode."""
    return any(is_norm(module) and module.training for module in network.modules())
