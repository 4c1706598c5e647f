"""A checkpoint: tensors in our layout, with everything that is known about where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rexdet.errors import UserError
from rexdet.nets.resnet import STRIDE_PLACES
from rexdet.weights.formats import read_file
from rexdet.weights.layouts import Match, find_networks
from rexdet.weights.pixels import IMAGENET, Preprocessing, read_pixels, read_sidecar
from rexdet.weights.resnet_shapes import ResNetShape
from rexdet.weights.sanity import refuse_broken_numbers
from rexdet.weights.shapes import NetworkShape, read_shape
from rexdet.weights.unwrap import Unwrapped, unwrap

# What our tools write about a checkpoint: a safetensors metadata entry, or a key beside the weights in a torch file.
METADATA_KEY = "rexdet"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """Tensors in our layout, their pixels, and where they come from.

    network: the zoo name that fits ("rexnet_1.0"), or None where no name does.
    overrides: arguments beside the name with which that network is built ({"depth": 2.0}).
    sha256: of the file; of a bare state dict, of its tensors (`hash_tensors`).
    origin_sha256: the file that this one was converted from; otherwise the same as sha256. Tables are keyed by it.
    layout: whose keys the file has ("ours", "timm", "torchvision", "caffe2", ...); "detectron2" for a backbone in our
        keys inside a detectron2 detector. kind: "backbone", "classifier" or "detector".
    pixels_known_by: "sha", "metadata", "user" or "assumed".
    licence: of the weights, None where unknown. source: the path, name@tag, or "a state dict".
    shape: the network's hyper-parameters. container: the kind of file.
    stride_in: where the bottlenecks of a ResNet have their stride, "3x3" or "1x1", as far as layout or metadata tell;
        no tensor does. Where it is not the network's default it is among `overrides`, too.
    prefix: what stood before each key. part: where in the file the network lay (`part=` chooses another).
    other_parts: further networks in the file. ignored: what else it holds.
    extra: keys beside the network's own under the same prefix. head_extra: those of a classifier in another form.
    """

    network: str | None
    sha256: str
    layout: str
    pixels: Preprocessing
    pixels_known_by: str
    licence: str | None
    source: str
    kind: str
    shape: NetworkShape
    origin_sha256: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    container: str = "memory"
    stride_in: str | None = None
    prefix: str = ""
    part: str = ""
    other_parts: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    head_extra: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def network_in_words(self) -> str:
        """The network with the overrides beside its name, for a person: "resnet50 with 40 widths of its own"."""
        options = [
            f"{len(value)} widths of its own" if key == "channels" else f"{key}={value}"
            for key, value in self.overrides.items()
        ]
        return f"{self.network} with {', '.join(options)}" if options else str(self.network)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors in our layout (CPU, the file's dtype); a new dictionary, the tensors themselves are shared."""
        return dict(self.tensors)

    def metadata(self) -> dict[str, Any]:
        """What our tools write into a file that they save from this checkpoint: plain values."""
        facts: dict[str, Any] = {
            "network": self.network,
            "overrides": dict(self.overrides),
            **({"stride_in": self.stride_in} if self.stride_in else {}),
            "origin_sha256": self.origin_sha256,
            "licence": self.licence,
            "source": self.source,
        }
        if self.pixels_known_by != "assumed":
            facts["pixels"] = self.pixels.as_mapping()
        return facts


@dataclass(frozen=True)
class KnownFile:
    """What is known of a published file by its SHA-256.

    overrides: arguments with which its network is built and which no tensor tells.
    """

    name: str
    pixels: Preprocessing
    licence: str | None
    overrides: Mapping[str, Any] = field(default_factory=dict)


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state in our layout: of key, dtype, shape and bytes of each tensor, sorted by key.

    Counters of norms (`num_batches_tracked`) do not count: they change nothing that the network computes.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        if key.endswith("num_batches_tracked"):
            continue
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_checkpoint(
    source: str | Path | Mapping[str, Any],
    *,
    pixels: str | Path | Mapping[str, Any] | Preprocessing | None = None,
    part: str = "",
    known: Callable[[str, Path | None], KnownFile | None] = lambda sha256, path: None,
    name_of: Callable[[Mapping[str, Tensor]], tuple[str, dict[str, Any]] | None] = lambda state: None,
    name: str = "",
    find: Callable[[Mapping[str, Tensor]], list[Match]] = find_networks,
    shape_of: Callable[[Mapping[str, Tensor]], NetworkShape] = read_shape,
) -> Checkpoint:
    """Open a file or a dictionary of weights.

    pixels: the user's word, see `read_pixels`. part: which network in the file ("" chooses, see `unwrap`).
    known: what is published under a SHA-256. name_of: the zoo name that fits a state in our layout.
    name: what the checkpoint is called where it has a better name than its path.
    find, shape_of: what counts as a network, and its hyper-parameters; for networks that are not of our families.

    Raises UserError in one line for anything that is not a whole, sound checkpoint of one of our networks, and for a
    word about pixels that contradicts what is known.
    """
    if isinstance(source, Mapping):
        where, path, container = "a state dict", None, "memory"
        value: Any = source
        written: Mapping[str, Any] = _written_in(value)
    else:
        path = Path(source)
        where = str(path)
        content = read_file(path)
        value, container = content.value, content.container
        written = _written_in_metadata(content.metadata, where) if content.metadata else _written_in(value)
    unwrapped = unwrap(_without_metadata(value), where, part, find)
    match = unwrapped.found.match
    if foreign := match.layout.foreign(match.extra):
        raise UserError(
            f"holds a network with {foreign}, which rexdet's networks do not have",
            where=where,
            fix="build it as timm:NAME or torchvision:NAME",
        )
    theirs = match.tensors(unwrapped.found.tensors)
    try:
        state = match.layout.to_ours(theirs)
    except ValueError as error:
        raise UserError(f"keys of {match.layout.title} that contradict each other: {error}", where=where) from error
    # Copies: a file may be overwritten while it is mapped into memory, and a caller may go on training its tensors.
    state = {key: tensor.detach().cpu().clone() for key, tensor in state.items()}
    refuse_broken_numbers(state, where)

    sha256 = hash_tensors(state) if path is None else hash_file(path)
    published = known(sha256, path)
    assumed = match.layout.pixels(theirs)
    found_pixels, known_by = _settle_pixels(published, written, path, pixels, where, assumed)
    shape = shape_of(state)
    named = name_of(state)
    stride_in = _stride_in(shape, match.layout.stride_in(theirs), written, published)
    heads = tuple(key for key in match.extra if key[len(match.prefix) :].startswith(match.layout.head_keys))
    elsewhere = {key for found in unwrapped.others for key in (*found.match.keys, *found.match.extra)}
    return Checkpoint(
        network=named[0] if named else None,
        overrides=_with_stride(named[1], stride_in) if named else {},
        sha256=sha256,
        origin_sha256=str(written.get("origin_sha256") or sha256),
        layout="detectron2" if _is_detectron2(unwrapped) else match.layout.name,
        pixels=found_pixels,
        pixels_known_by=known_by,
        licence=published.licence if published else _text_or_none(written.get("licence")),
        source=name or (published.name if published else where),
        kind=_kind(unwrapped, shape),
        shape=shape,
        container=container,
        stride_in=stride_in,
        prefix=match.prefix,
        part=unwrapped.found.part,
        other_parts=tuple(found.part for found in unwrapped.others),
        ignored=(*unwrapped.ignored, *match.left_out),
        extra=tuple(key for key in match.extra if key not in heads and key not in elsewhere),
        head_extra=heads,
        tensors=state,
    )


def with_known_pixels(checkpoint: Checkpoint, known: KnownFile, word: Any = None) -> Checkpoint:
    """The checkpoint with what is published about it, for a file whose hash was trusted on first use."""
    settled, known_by = _settle_pixels(known, {}, None, word, checkpoint.source)
    stride_in = _stride_in(checkpoint.shape, checkpoint.stride_in, {}, known)
    return replace(
        checkpoint,
        pixels=settled,
        pixels_known_by=known_by,
        licence=known.licence,
        source=known.name,
        stride_in=stride_in,
        overrides=_with_stride(checkpoint.overrides, stride_in),
    )


def with_word_on_pixels(checkpoint: Checkpoint, word: Any) -> Checkpoint:
    """The checkpoint with the user's word about its pixels. Raises UserError where it contradicts what is known."""
    said = read_pixels(word)
    if checkpoint.pixels_known_by in ("assumed", "user"):
        return replace(checkpoint, pixels=said, pixels_known_by="user")
    if not said.same_values(checkpoint.pixels):
        raise UserError(
            f"pixels: you say {said}; it is known by {checkpoint.pixels_known_by} that they are {checkpoint.pixels}",
            where=checkpoint.source,
            fix="leave your word out",
        )
    return checkpoint


def _stride_in(
    shape: NetworkShape, told: str | None, written: Mapping[str, Any], published: KnownFile | None
) -> str | None:
    """Where the stride stands: by what is published, by the file's metadata, or as its layout tells."""
    if not isinstance(shape, ResNetShape) or shape.block != "bottleneck":
        return None
    by_publisher = published.overrides.get("stride_in") if published else None
    return by_publisher or _text_or_none(written.get("stride_in")) or told


def _with_stride(overrides: Mapping[str, Any], stride_in: str | None) -> dict[str, Any]:
    """The overrides with the place of the stride, where it is not the network's own."""
    rest = {key: value for key, value in overrides.items() if key != "stride_in"}
    return {**rest, "stride_in": stride_in} if stride_in not in (None, STRIDE_PLACES[0]) else rest


def _settle_pixels(
    published: KnownFile | None,
    written: Mapping[str, Any],
    path: Path | None,
    word: Any,
    where: str,
    assumed: Preprocessing = IMAGENET,
) -> tuple[Preprocessing, str]:
    """The pixels and how they are known: by SHA-256, by metadata or sidecar, by the user, or assumed; in this order."""
    said = None if word is None or word == "" else read_pixels(word)
    known, known_by, witness = None, "", ""
    if published is not None:
        known, known_by, witness = published.pixels, "sha", f"its SHA-256 is that of {published.name}"
    elif written.get("pixels"):
        known, known_by, witness = read_pixels(written["pixels"], f"{where} (metadata)"), "metadata", "its metadata"
    elif path is not None and (beside := read_sidecar(path)) is not None:
        known, known_by, witness = beside, "metadata", "the .pixels.yaml beside it"
    if known is None:
        return (said, "user") if said is not None else (assumed, "assumed")
    if said is not None and not said.same_values(known):
        raise UserError(
            f"pixels: you say {said}; {witness} says {known}", where=where, fix="leave your word out, or mend the other"
        )
    return known, known_by


def _written_in(value: Any) -> Mapping[str, Any]:
    """What a torch file or a dictionary says about itself under our key."""
    inner = value.get(METADATA_KEY) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _written_in_metadata(metadata: Mapping[str, str], where: str) -> Mapping[str, Any]:
    if METADATA_KEY not in metadata:
        return {}
    try:
        value = json.loads(metadata[METADATA_KEY])
    except json.JSONDecodeError as error:
        raise UserError(f"metadata entry {METADATA_KEY!r} is not JSON", where=where, fix="convert it again") from error
    return value if isinstance(value, Mapping) else {}


def _without_metadata(value: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(value.get(METADATA_KEY), Mapping):
        return {key: inner for key, inner in value.items() if key != METADATA_KEY}
    return value


def _is_detectron2(unwrapped: Unwrapped) -> bool:
    match = unwrapped.found.match
    return match.layout.name == "ours" and match.prefix.endswith("bottom_up.")


def _kind(unwrapped: Unwrapped, shape: NetworkShape) -> str:
    if unwrapped.found.is_detector:
        return "detector"
    return "classifier" if shape.head else "backbone"


def _text_or_none(value: Any) -> str | None:
    return str(value) if value else None
