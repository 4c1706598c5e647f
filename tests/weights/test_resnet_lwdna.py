"""The file of LW-DNA's ResNet-50: read by position or by its own names, its widths read from its shapes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import rexdet
from rexdet.weights import cache
from rexdet.weights.layouts import layout_by_name
from rexdet.zoo.lwdna_file import spec_from
from rexdet.zoo.open import fit_report
from rexdet.zoo.registry import skeleton

State = dict[str, Tensor]
DEPTHS = (3, 4, 6, 3)


def legal_widths(seed: int = 0) -> dict[str, int]:
    """Widths that the search of the paper's README command may leave of a doubled ResNet-50, at an eighth of their size
    so that the tests are fast: between the floor of a layer (40 %, 45 % for the last stage) and all of it."""
    draw = random.Random(seed)
    widths = {"stem": draw.randint(51, 128) // 8}
    for stage, depth in enumerate(DEPTHS):
        stream = 512 * 2**stage
        floor = 0.45 if stage == 3 else 0.4
        written = draw.randint(int(stream * floor), stream) // 8
        for block in range(depth):
            path = f"stages.{stage}.{block}"
            for unit in ("unit1", "unit2"):
                inside = 128 * 2**stage
                widths[f"{path}.{unit}"] = draw.randint(int(inside * 0.4), inside) // 8
            widths[f"{path}.unit3"] = written
        widths[f"stages.{stage}.0.projection"] = written
    return widths


@pytest.fixture(scope="module")
def widths() -> dict[str, int]:
    return legal_widths()


@pytest.fixture(scope="module")
def ours(make_state: Callable[..., State], widths: dict[str, int]) -> State:
    """Its tensors in our layout."""
    return make_state("resnet50", 7, channels=widths)


@pytest.fixture(scope="module")
def theirs(ours: State) -> State:
    """torchvision's tensors in torchvision's order."""
    return layout_by_name("torchvision", "resnet").from_ours(ours)


def shuffled(state: State, seed: int = 1) -> State:
    names = list(state)
    random.Random(seed).shuffle(names)
    return dict(zip(names, state.values(), strict=True))


def emitted(state: State) -> State:
    """The names of the network that the search emits."""
    starts = [2, 5, 9, 15]
    made: State = {}
    for key, tensor in state.items():
        top, *rest = key.split(".")
        if top == "fc":
            made[f"classifier.{rest[0]}"] = tensor
        elif top in ("conv1", "bn1"):
            made[f"features.0.{'' if top == 'conv1' else 'bn_main.'}{rest[0]}"] = tensor
        else:
            number = starts[int(top[-1]) - 1] + int(rest[0])
            is_norm = rest[1].startswith("bn") or rest[1:3] == ["downsample", "1"]
            part = "downsample" if rest[1] == "downsample" else f"layer{rest[1][-1]}"
            made[f"features.{number}.{part}.{'bn_main.' if is_norm else ''}{rest[-1]}"] = tensor
    return made


def with_latent_vectors(state: State) -> State:
    return {**{f"latent_vector_stage{stage}": torch.randn(3 + stage) for stage in range(5)}, **state}


FORMS: dict[str, tuple[Callable[[State], State], str]] = {
    "torchvision's names": (lambda state: state, "torchvision"),
    "names of nothing": (lambda state: {f"t{index}": tensor for index, tensor in enumerate(state.values())}, "lwdna"),
    "shuffled names": (shuffled, "lwdna"),
    "names of the search": (emitted, "lwdna"),
}


@pytest.mark.parametrize("latent", [False, True])
@pytest.mark.parametrize("form", list(FORMS))
def test_the_file_opens_whatever_its_names(
    ours: State, theirs: State, widths: dict[str, int], form: str, latent: bool
) -> None:
    make, layout = FORMS[form]
    state = make(theirs)
    assert len(state) == 320
    checkpoint = rexdet.open_checkpoint(with_latent_vectors(state) if latent else state)
    assert (checkpoint.layout, checkpoint.network, checkpoint.kind) == (layout, "resnet50", "classifier")
    assert checkpoint.overrides["channels"] == widths
    assert checkpoint.stride_in == "3x3"
    assert len(checkpoint.ignored) == (5 if latent else 0)
    assert checkpoint.extra == ()
    tensors = checkpoint.state_dict()
    assert list(tensors) == list(ours)
    assert all(torch.equal(tensors[key], ours[key]) for key in ours)
    back = layout_by_name("lwdna", "resnet").from_ours(tensors)
    assert list(back) == list(theirs)
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)


def test_names_that_fit_win_over_the_order(theirs: State, ours: State) -> None:
    sorted_by_name = {key: theirs[key] for key in sorted(theirs)}
    checkpoint = rexdet.open_checkpoint(sorted_by_name)
    assert checkpoint.layout == "torchvision"
    assert all(torch.equal(tensor, ours[key]) for key, tensor in checkpoint.state_dict().items())


@pytest.mark.parametrize(
    ("position", "shape"),
    [(0, (16, 3, 3, 3)), (6, (5, 6, 1, 1)), (7, (3,)), (24, (9, 9, 1, 1)), (318, (7, 3)), (319, (9,))],
)
def test_tensors_that_do_not_follow_each_other_are_no_resnet(
    theirs: State, position: int, shape: tuple[int, ...]
) -> None:
    state = {f"t{index}": tensor for index, tensor in enumerate(theirs.values())}
    state[f"t{position}"] = torch.zeros(shape)
    with pytest.raises(rexdet.UserError, match="not one of rexdet's"):
        rexdet.open_checkpoint(state)


def test_one_tensor_more_or_less_is_no_resnet(theirs: State) -> None:
    state = {f"t{index}": tensor for index, tensor in enumerate(theirs.values())}
    with pytest.raises(rexdet.UserError, match="not one of rexdet's"):
        rexdet.open_checkpoint({**state, "more": torch.zeros(1)})
    state.popitem()
    with pytest.raises(rexdet.UserError, match="not one of rexdet's"):
        rexdet.open_checkpoint(state)


# --- the name resnet50_lwdna


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("call", [rexdet.create_model, rexdet.create_backbone, skeleton])
def test_without_the_file_the_name_is_refused_and_says_where_to_put_it(call: Callable[..., object]) -> None:
    text = refusal(call, "resnet50_lwdna")
    assert "https://drive.google.com/file/d/" in text
    assert str(cache.folder() / "resnet50_lwdna.pt") in text
    assert "resnet50_lwdna" not in rexdet.list_models()


def test_offline_its_tag_says_the_same() -> None:
    text = refusal(rexdet.create_model, "resnet50_lwdna@hh_in1k")
    assert str(cache.folder() / "resnet50_lwdna.pt") in text
    assert "resnet50_lwdna@hh_in1k" in refusal(rexdet.open_checkpoint, "resnet50_lwdna@other")
    assert "its published weights are resnet50_lwdna@hh_in1k" in refusal(rexdet.open_checkpoint, "resnet50_lwdna")


@pytest.fixture
def file(theirs: State, tmp_path: Path) -> Path:
    path = tmp_path / "anything.bin"
    torch.save(with_latent_vectors(shuffled(theirs)), path)
    return path


def test_the_file_in_the_cache_makes_the_name_a_network(
    theirs: State, ours: State, widths: dict[str, int], make_state: Callable[..., State]
) -> None:
    cache.folder().mkdir(parents=True, exist_ok=True)
    torch.save(shuffled(theirs), cache.folder() / "resnet50_lwdna.pt")
    network = rexdet.create_model("resnet50_lwdna", 7)
    assert network.channels == widths
    assert not torch.equal(network.state_dict()["stem.conv.weight"], ours["stem.conv.weight"])
    filled = rexdet.create_model("resnet50_lwdna@hh_in1k")
    assert filled.num_classes == 7
    assert torch.equal(filled.state_dict()["stem.conv.weight"], ours["stem.conv.weight"])
    checkpoint = rexdet.open_checkpoint("resnet50_lwdna@hh_in1k")
    assert (checkpoint.source, checkpoint.pixels_known_by) == ("resnet50_lwdna@hh_in1k", "sha")
    assert fit_report(checkpoint, "resnet50_lwdna").ok
    assert "channels is what the name says" in refusal(rexdet.create_model, "resnet50_lwdna", channels={"stem": 8})


def test_the_file_given_as_weights_makes_the_name_a_network(file: Path, ours: State, widths: dict[str, int]) -> None:
    model = rexdet.create_model("resnet50_lwdna", weights=file).eval()
    assert torch.equal(model.state_dict()["head.bias"], ours["head.bias"])
    backbone = rexdet.create_backbone("resnet50_lwdna", norm="FrozenBN", weights=file).eval()
    streams = [widths[f"stages.{stage}.0.unit3"] for stage in range(4)]
    assert [feature.channels for feature in backbone.features.values()] == streams
    same = rexdet.create_model("resnet50", weights=file, channels=widths).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), same(images))
        assert [maps.shape[1] for maps in backbone(images).values()] == streams
    assert fit_report(rexdet.open_checkpoint(file), "resnet50_lwdna").ok


def test_a_file_of_the_ordinary_resnet_is_not_the_authors(make_state: Callable[..., State]) -> None:
    checkpoint = rexdet.open_checkpoint(make_state("resnet18"))
    assert "holds resnet18" in refusal(spec_from, checkpoint)
    plain = skeleton("resnet50").state_dict()
    state = {key: torch.zeros(tensor.shape) for key, tensor in plain.items()}
    assert "holds resnet50, and" in refusal(rexdet.create_model, "resnet50_lwdna", weights=state)


def test_another_name_is_answered_with_the_widths_that_the_file_has(file: Path, widths: dict[str, int]) -> None:
    text = refusal(rexdet.create_model, "resnet50", weights=file)
    assert f"use resnet50 with {len(widths)} widths of its own" in text
    assert len(text) < 400
