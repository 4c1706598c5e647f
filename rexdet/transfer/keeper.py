"""The state of a training: everything that it hangs on, in one file, so that it goes on as if it had never stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from rexdet.disk import refusals_told
from rexdet.errors import UserError
from rexdet.files import atomic_path
from rexdet.processes import gather, is_main, rank, world_size
from rexdet.runs import capture_random_state, restore_random_state

STATE_NAME = "state.pth"
# The state is written after the first step, then once it has cost no more than a twentieth of the time since, and no
# more often than so.
_SHARE = 20.0
_LEAST_S = 2.0
# Among several processes it is collected from all of them, at steps that all of them know.
_STEPS_TOGETHER = 100


class StateKeeper:
    """Writes and reads everything that a training hangs on; without a path it does neither.

    identity: what must be the same for a state to fit, by the word that an error calls it. parts: objects with
    `state_dict` and `load_state_dict`; None is left out. every: steps between two states; None: by what they cost.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any], parts: dict[str, Any], every: int | None) -> None:
        self.path = path
        self.identity = identity
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.every = every or (_STEPS_TOGETHER if world_size() > 1 else None)
        self._next = 0.0

    def is_due(self, step: int) -> bool:
        """Whether a state should be written after this step; every process gets the same answer."""
        if self.path is None:
            return False
        return step % self.every == 0 if self.every else time.monotonic() >= self._next

    def save(self, progress: dict[str, Any]) -> None:
        """Write the state, whole or not at all. To be called by every process; the first writes."""
        if self.path is None:
            return
        begun = time.monotonic()
        random = gather(capture_random_state())
        if is_main():
            state = {name: part.state_dict() for name, part in self.parts.items()}
            kept = {**state, "progress": progress, "identity": self.identity, "random": random}
            fix = "make room and start again with --resume; the state before it is still there"
            with (
                refusals_told("the state of the training cannot be kept", self.path, fix),
                atomic_path(self.path) as temporary,
            ):
                torch.save(kept, temporary)
        ended = time.monotonic()
        self._next = ended + max(_LEAST_S, _SHARE * (ended - begun))

    def load(self) -> dict[str, Any] | None:
        """Fill the parts from the state, if there is one; returns the progress that was saved with it.

        Raises UserError for a file that is none, and for the state of another training.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            kept = state["identity"]
        except Exception as error:
            raise UserError(
                f"not a state of a training ({error})", str(self.path), "remove it to start anew"
            ) from error
        for what, value in self.identity.items():
            if kept.get(what) != value:
                raise UserError(f"belongs to a training with another {what}", str(self.path), "name another --output")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        # A process that the earlier start did not have draws its own numbers.
        if rank() < len(state["random"]):
            restore_random_state(state["random"][rank()])
        progress: dict[str, Any] = state["progress"]
        return progress
