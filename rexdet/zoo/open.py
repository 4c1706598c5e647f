"""The public entrances: open a checkpoint, fill a model, build a network or a backbone by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from rexdet.errors import UserError
from rexdet.nets.features import PYRAMID, Backbone, Step
from rexdet.weights.checkpoint import Checkpoint, read_checkpoint, with_known_pixels, with_word_on_pixels
from rexdet.weights.load import LoadReport, compare, fill
from rexdet.weights.pixels import Preprocessing
from rexdet.zoo import lwdna_file, published
from rexdet.zoo.external import create_external_backbone, create_external_model
from rexdet.zoo.external_checkpoint import external_of, open_external
from rexdet.zoo.external_load import compare_external, external_network, fill_external
from rexdet.zoo.external_network import ExternalNetwork, on_meta
from rexdet.zoo.names import Name, names_weights, parse, take_rule
from rexdet.zoo.registry import LWDNA_RESNET50, NetworkSpec, identify, resolve, skeleton_of

Source = str | Path | Mapping[str, Any] | Checkpoint
Pixels = str | Path | Mapping[str, Any] | Preprocessing | None

# What a network of one name may be trained with either way, and a checkpoint tells.
FROM_THE_WEIGHTS = ("stride_in", "stem_norm")
_ENDINGS = (".pth", ".pt", ".th", ".tar", ".pkl", ".safetensors", ".bin", ".ckpt")


def open_checkpoint(source: Source, pixels: Pixels = None, *, part: str = "", network: str = "") -> Checkpoint:
    """Open weights: a file, a published name ("rexnet_1.0@nav_in1k"), or a state dict.

    pixels: your word about what the network was trained to see (a preset's name, a YAML file, a mapping); the file's
        SHA-256 and its metadata are asked first. part: which network of a file that holds several; "" chooses.
    network: "timm:NAME" or "torchvision:NAME" for a file of such a network that does not say so itself; its tensors
        have that package's keys. A name of our own networks says nothing new: their files tell.

    Raises UserError for anything that is not a whole, sound checkpoint of one of these networks, for a name that was
    never published, and where a file would have to be fetched and cannot be.
    """
    _check_source(source)
    if isinstance(source, Checkpoint):
        return source if pixels in (None, "") else with_word_on_pixels(source, pixels)
    external = external_of(source, network)
    if external is not None:
        return open_external(external, source, pixels, part)
    if isinstance(source, Mapping):
        return read_checkpoint(source, pixels=pixels, part=part, known=published.known_file, name_of=identify)
    if is_published_name(source):
        return _open_published(parse(str(source)).without_rule, pixels, part)
    if isinstance(source, str) and not Path(source).exists():
        if take_rule(source)[1] == LWDNA_RESNET50 or is_network(source):
            raise published.nothing_published(take_rule(source)[1])
        if "://" in source:
            raise UserError("is an address, not a file of weights", where=source, fix="download it, and give the file")
    return read_checkpoint(Path(source), pixels=pixels, part=part, known=published.known_file, name_of=identify)


def _check_source(source: object) -> None:
    """Raises UserError for what can be no weights at all, whatever it holds."""
    if not isinstance(source, str | Path | Mapping | Checkpoint):
        raise UserError(
            f"weights are {type(source).__name__} {source!r:.40}",
            fix="give a file, a name with a @tag, or a state dict",
        )
    if source == "":
        raise UserError("weights are an empty text", fix="give a file, a name with a @tag, or leave weights out")


def is_published_name(source: object) -> bool:
    """The source is a name with a tag, and not a path: no such file exists and it has a name's form."""
    if not isinstance(source, str) or not names_weights(source) or Path(source).exists():
        return False
    rule, _, rest = source.partition("/")
    # The slash behind an N:M rule is no path's.
    name = rest if rule.startswith("nm") and ":" in rule else source
    looks_like_a_path = "/" in name or "\\" in name or name.endswith(_ENDINGS)
    return not looks_like_a_path


def is_network(text: str) -> bool:
    """The text is the name of a network that rexdet can build."""
    try:
        resolve(text)
    except UserError:
        return False
    return True


def _open_published(name: Name, pixels: Pixels, part: str) -> Checkpoint:
    if not name.package and name.base != LWDNA_RESNET50:
        resolve(name.network)
    entry = published.entry(name)
    path = published.fetch(entry)
    checkpoint = read_checkpoint(
        path, pixels=None, part=part, known=published.known_file, name_of=identify, name=str(name)
    )
    if name.base == LWDNA_RESNET50:
        lwdna_file.spec_from(checkpoint)
    elif checkpoint.network != name.network:
        raise UserError(
            f"the file of {name} holds {checkpoint.network or 'another network'}",
            where=str(path),
            fix="delete it and fetch again",
        )
    return with_known_pixels(checkpoint, entry.known(), pixels)


def load_weights(model: nn.Module, source: Source, head: str = "auto", strict: bool = True) -> LoadReport:
    """Fill `model` (a network of `create_model`, a backbone of `create_backbone`) from a checkpoint.

    head: "keep" (the classifier must fit), "reset" (leave it as it is), "auto" (keep it if it fits, leave it as it is
        where the class count differs or the model has none).
    strict: nothing may be missing, and nothing unexpected outside of the classifier and what lies behind the model's
        last feature map, else UserError is raised with the report in one line and the model stays as it was.
    """
    external = external_network(model)
    if external is not None:
        return fill_external(model, _open_for(external, source), head=head, strict=strict)
    return fill(model, open_checkpoint(source), head=head, strict=strict, name_of=identify)


def _same_network(name: Name, network: ExternalNetwork) -> bool:
    return (name.base, name.package) == (network.base.base, network.package)


def compare_weights(model: nn.Module, checkpoint: Checkpoint) -> LoadReport:
    """The report that `load_weights` would give, without changing the model; it may live on the meta device."""
    if external_network(model) is not None:
        return compare_external(model, checkpoint)
    return compare(model, checkpoint, name_of=identify)


def _open_for(network: ExternalNetwork, source: Source) -> Checkpoint:
    """A checkpoint for a network of another package, which may have been built with overrides."""
    _check_source(source)
    if isinstance(source, Checkpoint):
        return source
    name = external_of(source, network.name) or network.base
    return open_external(name, source, network=network if _same_network(name, network) else None)


def fit_report(checkpoint: Checkpoint, network: str) -> LoadReport:
    """How a checkpoint fits a named network: its classifier, or for a backbone's file the part that the file covers.

    The class count may differ. Nothing is loaded.
    """
    name = parse(network)
    if name.package:
        return _external_fit(name, checkpoint)
    spec, overrides = network_spec(network, checkpoint)
    # The file's own overrides (a depth, no squeeze-excitation) belong to it, where the name is the one that it has.
    if checkpoint.network == name.without_rule.network:
        overrides = dict(checkpoint.overrides)
    if checkpoint.shape.norm == "group":
        overrides["norm"] = "GN"
    model: nn.Module = skeleton_of(spec, **overrides)
    if checkpoint.shape.head is None:
        model = Backbone(model, [_last_feature(checkpoint, model)])
    return compare(model, checkpoint, name_of=identify)


def _external_fit(name: Name, checkpoint: Checkpoint) -> LoadReport:
    """How a checkpoint fits a network of another package: the classifier, or for a backbone's file its feature maps."""
    with_head = checkpoint.shape.head is not None
    return compare_external(
        on_meta(
            lambda: (
                create_external_model(name, None, None, {})
                if with_head
                else create_external_backbone(name, PYRAMID, "BN", 0, None, {})
            )
        ),
        checkpoint,
    )


def _last_feature(checkpoint: Checkpoint, model: nn.Module) -> str:
    """The last feature map of `model` that a backbone's file reaches."""
    steps: Sequence[Step] = model.steps  # type: ignore[assignment]
    paths = {step.output: f"{step.path}." for step in steps if step.output}
    reached = [name for name, path in paths.items() if any(key.startswith(path) for key in checkpoint.tensors)]
    return reached[-1] if reached else PYRAMID[0]


def create_model(
    name: str, num_classes: int | None = None, *, weights: Source | None = None, **overrides: Any
) -> nn.Module:
    """A network by name: (B, 3, H, W) -> (B, num_classes) logits.

    name: without a tag the weights are random; with one ("rexnet_1.0@nav_in1k") they are the published ones.
    num_classes: None for the network's own count (1000), or what the checkpoint has. Another count than that of the
        checkpoint gives a new classifier on its features.
    weights: a checkpoint of one's own for a name without a tag.
    overrides: arguments of the network (`depth`, `squeeze_excitation`, `activation`, `drop_path`, ...).
    """
    parsed = parse(name)
    if parsed.package:
        return create_external_model(parsed, num_classes, _external_checkpoint(parsed, weights, overrides), overrides)
    checkpoint = _checkpoint_for(parsed, weights)
    if num_classes is None and checkpoint is not None:
        num_classes = checkpoint.shape.classes
    spec, told = network_spec(parsed.network, checkpoint)
    model = spec.build(num_classes, **{**told, **overrides})
    if checkpoint is not None:
        fill(model, checkpoint, name_of=identify)
    return model


def create_backbone(
    name: str,
    out_features: Sequence[str] = PYRAMID,
    norm: str | None = "BN",
    freeze_at: int = 0,
    *,
    weights: Source | None = None,
    activation_checkpointing: bool = False,
    **overrides: Any,
) -> nn.Module:
    """A backbone by name: (B, 3, H, W) -> {"res2": (B, C2, ceil(H/4), ceil(W/4)), ...}.

    Its `.features` maps each name to Feature(channels, stride).
    name, weights, overrides: as in `create_model`; the weights must fill the whole backbone.
    out_features: names of feature maps. norm: "BN", "FrozenBN", "SyncBN" or "GN"; None for FrozenBN with weights and BN
        without. freeze_at: stages that do not learn, as detectron2 counts them; it holds for random weights, too.
    activation_checkpointing: trade time for memory in training.

    Raises UserError for an unknown name, and for norm "FrozenBN" on a random network: a frozen norm without statistics
    is the identity for ever, and activations grow from block to block.
    """
    parsed = parse(name)
    has_weights = bool(parsed.tag) or weights is not None
    norm = norm or ("FrozenBN" if has_weights else "BN")
    if norm == "FrozenBN" and not has_weights:
        raise UserError(
            "frozen norm without statistics: FrozenBN on a random network never normalises",
            where=name,
            fix="give weights (a @tag or weights=), or norm BN or GN",
        )
    if parsed.package:
        if activation_checkpointing:
            raise UserError("activation checkpointing is for rexdet's own networks", where=name, fix="leave it out")
        return create_external_backbone(
            parsed, out_features, norm, freeze_at, _external_checkpoint(parsed, weights, overrides), overrides
        )
    checkpoint = _checkpoint_for(parsed, weights)
    spec, told = network_spec(parsed.network, checkpoint)
    backbone = build_backbone(
        spec,
        out_features,
        norm,
        freeze_at,
        activation_checkpointing=activation_checkpointing,
        **{**told, **overrides},
    )
    if checkpoint is not None:
        fill(backbone, checkpoint, name_of=identify)
    return backbone


def build_backbone(
    network: str | NetworkSpec,
    out_features: Sequence[str] = PYRAMID,
    norm: str = "BN",
    freeze_at: int = 0,
    *,
    activation_checkpointing: bool = False,
    **overrides: Any,
) -> Backbone:
    """A backbone with random weights that somebody is about to fill: a frozen norm is not refused here."""
    spec = network if isinstance(network, NetworkSpec) else resolve(network)
    try:
        return Backbone(
            spec.build(norm=norm, **overrides),
            out_features,
            freeze_at=freeze_at,
            activation_checkpointing=activation_checkpointing,
        )
    except ValueError as error:
        raise UserError(str(error), where=spec.name) from error


def network_spec(network: str, checkpoint: Checkpoint | None) -> tuple[NetworkSpec, dict[str, Any]]:
    """How a named network is built so that a checkpoint fits it: its spec, and the arguments that the checkpoint tells.

    network: without a tag. No width nor depth is among the arguments: those the name says. But the widths of
    resnet50_lwdna are what the checkpoint, its authors' file, says; without one, the file in the cache.
    Raises UserError for an unknown name, and for resnet50_lwdna without its file or with another one.
    """
    name = parse(network)
    if name.base == LWDNA_RESNET50 and checkpoint is not None:
        spec = replace(lwdna_file.spec_from(checkpoint), name=network, rule=name.rule)
    else:
        spec = resolve(network)
    told = checkpoint.overrides if checkpoint is not None else {}
    return spec, {key: told[key] for key in FROM_THE_WEIGHTS if key in told and spec.takes(key)}


def asks_its_weights(network: str) -> bool:
    """The network of that name (without a tag) is built in a way that its weights tell."""
    if parse(network).base == LWDNA_RESNET50:
        return True
    return any(resolve(network).takes(key) for key in FROM_THE_WEIGHTS)


def _external_checkpoint(name: Name, weights: Source | None, overrides: dict[str, Any]) -> Checkpoint | None:
    """What fills another package's network: what its tag names, or the weights that are given beside a name."""
    _check_named_once(name, weights)
    network = ExternalNetwork(name, overrides)
    if name.tag:
        return open_external(name, str(name), network=network)
    return None if weights is None else _open_for(network, weights)


def _checkpoint_for(name: Name, weights: Source | None) -> Checkpoint | None:
    _check_named_once(name, weights)
    if name.tag:
        return open_checkpoint(str(name))
    return None if weights is None else open_checkpoint(weights)


def _check_named_once(name: Name, weights: Source | None) -> None:
    if name.tag and weights is not None:
        raise UserError(
            f"{name} names its weights already, and weights are given, too",
            where="weights",
            fix="leave one of them out",
        )
