"""Names: one grammar, one spelling, every name another network."""

from __future__ import annotations

import pytest

import rexdet
from rexdet.nets.complexity import count_parameters
from rexdet.zoo.names import Name, names_weights, parse, without_tag
from rexdet.zoo.registry import FAMILIES, identify, resolve, skeleton

# Published counts: arXiv 2007.00992's code, to the digit.
PARAMETERS = {
    "rexnet_0.9": 4_091_257,
    "rexnet_1.0": 4_796_873,
    "rexnet_1.3": 7_557_091,
    "rexnet_1.5": 9_728_593,
    "rexnet_2.0": 16_366_620,
    "rexnet_2.2": 19_485_308,
    "rexnet_3.0": 34_708_792,
    "rexnet_lite_1.0": 4_740_056,
    "rexnet_lite_1.3": 6_747_960,
    "rexnet_lite_1.5": 8_332_296,
    "rexnet_lite_2.0": 12_966_200,
}


def refusal(call, *arguments, **options) -> str:
    with pytest.raises(rexdet.UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rexnet_1.0", Name("rexnet_1.0")),
        ("rexnet_1.0@nav_in1k", Name("rexnet_1.0", "nav_in1k")),
        ("timm:resnet50", Name("resnet50", package="timm")),
        ("timm:resnet50.a1_in1k@x", Name("resnet50.a1_in1k", "x", "timm")),
        ("torchvision:resnet50@IMAGENET1K_V2", Name("resnet50", "IMAGENET1K_V2", "torchvision")),
    ],
)
def test_a_name_comes_apart_and_together(text: str, name: Name) -> None:
    assert parse(text) == name
    assert str(name) == text
    assert names_weights(text) is bool(name.tag)
    assert without_tag(text) == name.network


@pytest.mark.parametrize("text", ["lwdna:runs@home/my genome.yaml", "nm2:1/lwdna:runs@home/x.yaml"])
def test_an_at_in_a_genomes_path_is_no_tag(text: str) -> None:
    assert parse(text).tag == ""
    assert not names_weights(text)
    assert without_tag(text) == parse(text).network == text


@pytest.mark.parametrize("text", ["", "@nav_in1k", "rexnet_1.0@", "rexnet_1.0@a@b", "rexnet 1.0", "timm:", 1.0, None])
def test_what_is_no_name_is_told(text) -> None:
    assert refusal(parse, text)


def test_listed_names_are_sorted_and_filtered() -> None:
    names = rexdet.list_models()
    assert names == sorted(names)
    assert {"rexnet_0.6", "rexnet_1.0", "rexnet_3.0", "rexnet_lite_2.0", "rexnetr_3.0"} <= set(names)
    assert rexdet.list_models("rexnet_lite*") == [f"rexnet_lite_{width}" for width in (1.0, 1.3, 1.5, 2.0)]
    assert rexdet.list_models("nothing*") == []


def test_every_listed_name_is_another_network_with_the_published_count() -> None:
    """C76: no name builds another one's network."""
    counts = {name: count_parameters(skeleton(name)) for name in rexdet.list_models() if not parse(name).rule}
    assert len(set(counts.values())) == len(counts)
    assert {name: counts[name] for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("name", [name for name in rexdet.list_models() if not name.startswith("lwdna:")])
def test_every_listed_name_is_told_by_its_shapes(name: str) -> None:
    """Shapes cannot tell an N:M rule: they are those of the network that it is applied to.

    A genome's are told as those of a network of ours with widths of its own: tests/zoo/test_lwdna_names.py.
    """
    assert identify(skeleton(name).state_dict()) == (parse(name).without_rule.network, {})


def test_the_stem_follows_the_authors_rule() -> None:
    """C74: 32 channels up to width 1.0, wider above."""
    stems = {width: skeleton(f"rexnet_{width}").stem.conv.out_channels for width in (0.6, 0.9, 1.0, 1.3, 1.5, 3.0)}
    assert stems == {0.6: 32, 0.9: 32, 1.0: 32, 1.3: 42, 1.5: 48, 3.0: 96}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rexnet_1", "write rexnet_1.0"),
        ("rexnet_1.00", "write rexnet_1.0"),
        ("rexnet_lite_2", "write rexnet_lite_2.0"),
        ("rexnet_01.0", "write rexnet_1.0"),
        ("rexnet_0.2", "from 0.3 to 5.0"),
        ("rexnet_7.0", "from 0.3 to 5.0"),
        ("rexnet-1.0", "did you mean rexnet_1.0"),
        ("ReXNet_1.3", "did you mean rexnet_1.3"),
        ("rexnet_light_1.0", "rexnet_lite_1.0"),
        ("vgg16", "rexnet_W"),
        ("resnext50_0x4d", "is no count"),
        ("resnext50_99999999x4d", "399999996 channels in its first groups"),
        ("resnet99998_cifar", "depth 99998 of 'resnet99998_cifar' is out of range"),
        # Digits of other scripts are digits to Python.
        ("resnext50_\u0663\u0662x4d", "there is no network"),
    ],
)
@pytest.mark.parametrize("entrance", [resolve, rexdet.create_model, rexdet.create_backbone])
def test_an_unknown_name_is_answered_with_the_right_one(entrance, name: str, expected: str) -> None:
    """C10."""
    assert expected in refusal(entrance, name)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"width": 2.0}, "width is what the name says (1.0)"),
        ({"squeeze_exitation": True}, "did you mean squeeze_excitation"),
        ({"depth": "2"}, "depth is '2'"),
        ({"squeeze_excitation": 1}, "it takes bool or nothing"),
        ({"stem_channels": True}, "it takes int"),
        ({"output_stride": 7}, "output stride 7"),
        ({"activation": "swosh"}, "activation 'swosh'"),
        ({"norm": "LN"}, "norm 'LN' is not one of BN"),
    ],
)
def test_a_wrong_override_is_told(overrides, expected: str) -> None:
    assert expected in refusal(rexdet.create_model, "rexnet_1.0", 3, **overrides)


@pytest.mark.parametrize("classes", [0, -1, "3", 2.5, True])
def test_a_wrong_class_count_is_told(classes) -> None:
    assert "num_classes is" in refusal(rexdet.create_model, "rexnet_1.0", classes)


def test_any_width_can_be_built() -> None:
    assert skeleton("rexnet_1.27").features["res5"].channels == round(1.27 * (16 + 180 * 15 / 16))
    assert "rexnet_1.27" not in rexdet.list_models()
    assert all(family.pattern.fullmatch(name) for family in FAMILIES for name in family.listed)
