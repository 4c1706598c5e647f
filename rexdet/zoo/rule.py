"""The N:M rule of a name, applied to the network that the rest of the name builds."""

from __future__ import annotations

from torch import nn

from rexdet.errors import UserError
from rexdet.nets.nm_relu import apply_nm_rule

_LEAKY = "-leaky"


def with_rule(network: nn.Module, rule: str, where: str) -> nn.Module:
    """The network under a name's rule: "2:1", "2:1-leaky", or "" for the network as it is.

    Parameters and their names stay. Raises UserError, with `where`, for a network that the rule cannot be applied to.
    """
    if not rule:
        return network
    try:
        return apply_nm_rule(network, rule.removesuffix(_LEAKY), leaky=rule.endswith(_LEAKY)).network
    except ValueError as error:
        raise UserError(str(error), where=where) from error
