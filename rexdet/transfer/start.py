"""What a run starts from: a network by name, and its checkpoint, or random weights that somebody asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from rexdet.errors import UserError
from rexdet.runs import Network
from rexdet.transfer.augment import Normaliser
from rexdet.transfer.framing import Framing, frame
from rexdet.transfer.images import Listing
from rexdet.transfer.protocols import AnyProtocol
from rexdet.transfer.sanity import Sanity, check_before_run
from rexdet.transfer.taps import PENULTIMATE
from rexdet.weights.checkpoint import Checkpoint
from rexdet.weights.pixels import Preprocessing
from rexdet.zoo.names import parse
from rexdet.zoo.open import create_backbone, create_model, open_checkpoint

DEFAULT_NETWORK = "rexnet_1.0@nav_in1k"
FEWEST_IMAGES = 16
_LOOKED_AT = 64
_EMBEDDED = "or --dataset embedded, which shows the harness at work now"


@dataclass(frozen=True, eq=False)
class Start:
    """network: name without a tag. checkpoint: None for random weights. pixels: what the network sees of a pixel.
    is_whole: the checkpoint fills all of the network but the classifier; False: the backbone alone, which has taps.
    """

    network: str
    checkpoint: Checkpoint | None
    pixels: Preprocessing
    is_whole: bool = True

    def build(self, classes: int | None, options: Mapping[str, Any] | None = None) -> nn.Module:
        """The network with its weights and a new classifier; with the checkpoint's own one for classes None."""
        return create_model(self.network, classes, weights=self.checkpoint, **dict(options or {}))

    @property
    def identity(self) -> dict[str, Any]:
        """What a result hangs on, in plain values."""
        return {
            "network": self.network,
            "checkpoint": self.checkpoint.origin_sha256 if self.checkpoint else None,
            "pixels": {**self.pixels.as_mapping()},
        }

    @property
    def title(self) -> str:
        """For a person: the name, and where the weights are from."""
        if self.checkpoint is None:
            return f"{self.network}, random weights"
        return f"{self.network}, weights {self.checkpoint.source} (SHA-256 {self.checkpoint.origin_sha256[:12]})"

    def look(self, listing: Listing, framing: Framing, seed: int = 0) -> Sanity | None:
        """How the checkpoint answers images of the training split, before anything is trained; None for random weights.

        A file that "loads correctly" may still hold untrained norms or stages. Raises UserError for an image that
        cannot be read.
        """
        if self.checkpoint is None or len(listing) < FEWEST_IMAGES:
            return None
        kept = torch.randperm(len(listing), generator=torch.Generator().manual_seed(seed))[:_LOOKED_AT].tolist()
        images = torch.stack([frame(listing.files[place].pixels(), framing) for place in kept])
        has_head = self.checkpoint.shape.head is not None
        network = self.build(None) if self.is_whole else create_backbone(self.network, weights=self.checkpoint)
        return check_before_run(network, Normaliser(self.pixels)(images), has_own_head=has_head)

    def recorded(self) -> Network:
        """The network and its checkpoint as a run's record tells of them."""
        part = Network(name=self.network, norm="BN", freeze_at=0)
        checkpoint = self.checkpoint
        if checkpoint is None:
            return part
        same = checkpoint.origin_sha256 == checkpoint.sha256
        known_by: Any = checkpoint.pixels_known_by
        return part.model_copy(
            update={
                "overrides": dict(checkpoint.overrides),
                "sha256": checkpoint.sha256,
                "origin_sha256": None if same else checkpoint.origin_sha256,
                "source": checkpoint.source,
                "layout": checkpoint.layout,
                "pixels_known_by": known_by,
                "licence": checkpoint.licence,
            }
        )


def choose_start(network: str, weights: str, pixels: str, protocol: AnyProtocol, *, from_scratch: bool) -> Start:
    """Find out what was meant.

    network: "" for rexnet_1.0@nav_in1k. weights: a file or name@tag for a name without a tag. pixels: the user's word.
    from_scratch: random weights were asked for; some protocols imply it.

    Raises UserError in one line: weights named twice, or beside random ones, or not at all; a checkpoint that cannot be
    had, or of another network.
    """
    random = from_scratch or protocol.from_scratch
    name = parse(network or DEFAULT_NETWORK)
    if random:
        why = "--from-scratch" if from_scratch else f"protocol {protocol.name}"
        for given, what, fix in (
            (bool(network and name.tag), f"{network} names weights", "leave the @tag out"),
            (bool(weights), f"--weights {weights} names weights", "leave it out"),
            (bool(pixels), "--pixels tells of weights", "leave it out"),
        ):
            if given:
                raise UserError(f"{what}, and {why} begins with random ones", fix=f"{fix}, or take another protocol")
        start = Start(name.network, None, protocol.preprocessing())
    elif network and name.tag and weights:
        raise UserError(f"{name} names its weights already, and --weights is given, too", fix="leave one of them out")
    elif network and not name.tag and not weights:
        raise UserError(f"{name} alone has no weights", fix="give name@tag, --weights FILE, or --from-scratch")
    else:
        start = _with_weights(network, weights, pixels)
    # Another network's checkpoint is told now, not after the data has been read.
    return _checked(start, getattr(protocol, "tap", PENULTIMATE))


def _checked(start: Start, tap: str) -> Start:
    """The start, if its checkpoint fills what the protocol needs: taps up to res5 need the backbone alone."""
    try:
        start.build(None)
    except UserError as error:
        if start.checkpoint is None or start.checkpoint.kind != "backbone":
            raise
        create_backbone(start.network, weights=start.checkpoint)
        if tap == PENULTIMATE:
            fix = "a probe takes it: --protocol linear_probe --tap res5"
            raise UserError(f"a backbone without the layers behind res5 ({error.what})", error.where, fix) from None
        return replace(start, is_whole=False)
    return start


def _with_weights(network: str, weights: str, pixels: str) -> Start:
    name = parse(network or DEFAULT_NETWORK)
    try:
        # Without a network's name, the file tells which one it is.
        checkpoint = open_checkpoint(weights or str(name), pixels or None, network=name.network if network else "")
    except UserError as error:
        if network or weights:
            raise
        raise UserError(error.what, error.where, f"{error.fix}, {_EMBEDDED}" if error.fix else _EMBEDDED) from error
    if not network and weights and checkpoint.network is None:
        raise UserError("no name fits this network", checkpoint.source, "say which with --network NAME")
    own = name.network if network or not weights else str(checkpoint.network)
    return Start(own, checkpoint, checkpoint.pixels)
