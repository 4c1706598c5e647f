"""The seed of a run: given, drawn, or that of the run that goes on."""

from __future__ import annotations

import secrets

from rexdet.errors import UserError
from rexdet.processes import share


def choose_seed(given: int | None, *, resumed: int | None = None, source: str = "") -> int:
    """The seed that all processes use. resumed: that of the checkpoint `source` that a run goes on from.

    Raises UserError where a run that goes on is given another seed than it was started with.
    """
    if resumed is not None:
        if given not in (None, resumed):
            raise UserError(
                f"the run was started with seed {resumed}, and {given} is given now",
                where=source,
                fix="--resume goes on with the same run; leave the seed out",
            )
        return resumed
    return given if given is not None else int(share(secrets.randbelow(2**31)))
