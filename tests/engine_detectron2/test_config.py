"""The MODEL.REXDET node, and how mistakes in a config are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone

from rexdet.detectron2 import add_rexdet_config, check_config, merge_config, use_backbone
from rexdet.detectron2.config import DEFAULTS, read_overrides, read_settings
from rexdet.errors import UserError

Make = Callable[..., CfgNode]


def test_the_import_alone_registers_the_builders_and_the_node(repository: Path) -> None:
    program = (
        "from detectron2.config import get_cfg\n"
        "early = get_cfg()\n"
        "import rexdet.detectron2, importlib\n"
        "importlib.reload(rexdet.detectron2)\n"
        "from detectron2.modeling import BACKBONE_REGISTRY, build_backbone\n"
        "assert 'REXDET' not in early.MODEL and 'REXDET' in get_cfg().MODEL\n"
        "early.MODEL.BACKBONE.NAME = 'build_rexdet_fpn_backbone'\n"
        "print(sorted(name for name, _ in BACKBONE_REGISTRY if 'rexdet' in name))\n"
        "print(build_backbone(early).bottom_up.output_shape()['res5'].channels)\n"
        "rexdet.detectron2.add_rexdet_config(early)\n"
        "early.merge_from_list(['MODEL.REXDET.NAME', 'rexnet_1.3'])\n"
        "print(build_backbone(early).bottom_up.output_shape()['res5'].channels)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "['build_retinanet_rexdet_fpn_backbone', 'build_rexdet_backbone', 'build_rexdet_fpn_backbone']",
        "185",
        "240",
    ]


def test_the_node_has_the_documented_keys() -> None:
    assert dict(get_cfg().MODEL.REXDET) == DEFAULTS
    assert set(DEFAULTS) == {
        "NAME", "WEIGHTS", "PIXELS", "NORM", "OUT_FEATURES", "DROP_PATH", "ACT_CHECKPOINT", "OVERRIDES",
    }  # fmt: skip


def test_adding_the_node_keeps_values_and_works_on_a_frozen_config() -> None:
    cfg = get_cfg()
    cfg.MODEL.REXDET.NAME = "rexnet_1.3"
    del cfg.MODEL.REXDET["NORM"]
    cfg.freeze()
    add_rexdet_config(cfg)
    assert cfg.is_frozen()
    assert (cfg.MODEL.REXDET.NAME, cfg.MODEL.REXDET.NORM) == ("rexnet_1.3", "")


def test_two_configs_do_not_share_their_lists() -> None:
    first, second = get_cfg(), get_cfg()
    first.MODEL.REXDET.OUT_FEATURES.append("res5")
    assert second.MODEL.REXDET.OUT_FEATURES == []


def test_a_config_without_the_node_means_defaults(make_config: Make) -> None:
    cfg = make_config()
    del cfg.MODEL["REXDET"]
    assert build_backbone(cfg).output_shape()["res5"].channels == 185
    assert read_settings(cfg).name == "rexnet_1.0"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["MODEL.REXDET.NAM", "rexnet_1.3"], "did you mean MODEL.REXDET.NAME"),
        (["MODEL.REXDET.OUTFEATURES", "[res5]"], "did you mean MODEL.REXDET.OUT_FEATURES"),
        (["MODEL.REXDET.norm", "BN"], "did you mean MODEL.REXDET.NORM"),
        (["MODEL.REXNET.NAME", "rexnet_1.3"], "did you mean MODEL.REXDET.NAME"),
        (["SOLVER.MAX_ITR", "5"], "did you mean SOLVER.MAX_ITER"),
        (["MODEL.REXDET.OUT_FEATURES", "res5"], r"write \[res5\]"),
        (["MODEL.REXDET.NAME", "5"], 'write "5" in quotes'),
        (["MODEL.REXDET.ACT_CHECKPOINT", "1"], "must be a True or False"),
        (["MODEL.REXDET", "rexnet_1.0"], "it has NAME, WEIGHTS"),
        (["MODEL.REXDET.NAME"], "has no value"),
        (["SOLVER.MAX_ITER", "many"], "must be a whole number"),
    ],
)
def test_mistakes_in_pairs_are_told_in_one_line(pairs: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        merge_config(get_cfg(), None, pairs)
    assert "\n" not in str(caught.value)


def test_pairs_are_read_as_people_type_them() -> None:
    cfg = get_cfg()
    pairs = ["MODEL.REXDET.OUT_FEATURES", "[res5, res3, res4]", "MODEL.REXDET.DROP_PATH", "0", "SOLVER.BASE_LR", "1"]
    merge_config(cfg, None, [*pairs, "MODEL.REXDET.NAME", "rexnet_1.0@nav_in1k", "MODEL.PIXEL_STD", "(1.0, 2.0, 3.0)"])
    assert cfg.MODEL.REXDET.OUT_FEATURES == ["res5", "res3", "res4"]
    assert isinstance(cfg.MODEL.REXDET.DROP_PATH, float)
    assert (cfg.SOLVER.BASE_LR, cfg.MODEL.PIXEL_STD) == (1.0, [1.0, 2.0, 3.0])
    assert cfg.MODEL.REXDET.NAME == "rexnet_1.0@nav_in1k"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL:\n  REXDET:\n    NAEM: rexnet_1.0\n", "did you mean MODEL.REXDET.NAME"),
        ("MODEL:\n  REXDET:\n    OUT_FEATURES: res5\n", r"write \[res5\]"),
        ("MODEL:\n  REXDET: rexnet_1.0\n", "it has NAME"),
        ("MODEL: [1, 2\n", "is no YAML"),
        ("_BASE_: missing.yaml\n", "cannot be read as a config"),
        ("- a list\n", "cannot be read as a config"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"{text}" if text.startswith("-") else f"{text}VERSION: 2\n")
    with pytest.raises(UserError, match=message) as caught:
        merge_config(get_cfg(), file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(UserError, match="no such config"):
        merge_config(get_cfg(), "nowhere.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("OUT_FEATURES", "res5", r'write \["res5"\]'),
        ("OUT_FEATURES", ["res9"], r"there are res2 \(stride 4\), res3 \(stride 8\)"),
        ("OUT_FEATURES", ["res5", "res5"], "twice"),
        ("NORM", "LN", "BN, FrozenBN, SyncBN, GN"),
        ("NAME", "rexnte_1.0", "did you mean rexnet_1.0"),
        ("NAME", "", "names no network"),
        ("NAME", "timm:vit_tiny_patch16_224", "has no map for res"),
        ("NAME", 50, "is not a text"),
        ("DROP_PATH", 1.0, r"not a number in \[0, 1\)"),
        ("ACT_CHECKPOINT", "yes", "True or False"),
        ("OVERRIDES", ["depth"], "pairs"),
        ("OVERRIDES", [["dept", 2.0]], "did you mean depth"),
        ("OVERRIDES", [["norm", "GN"]], "set MODEL.REXDET.NORM"),
        ("OVERRIDES", [["num_classes", 3]], "no classifier"),
        ("OVERRIDES", [["in_channels", 4]], "the length of MODEL.PIXEL_MEAN"),
    ],
)
def test_wrong_values_are_told_before_anything_is_built(
    make_config: Make, key: str, value: object, message: str
) -> None:
    cfg = make_config(**{key: value})
    for check in (check_config, build_backbone):
        with pytest.raises(UserError, match=message):
            check(cfg)


def test_overrides_are_pairs_nested_or_flat() -> None:
    nested = [["depth", 1.2], ["squeeze_excitation", False]]
    assert read_overrides(nested) == read_overrides(["depth", 1.2, "squeeze_excitation", False])
    assert read_overrides(()) == {}
    for wrong in ("depth", [["depth"]], [["depth", 1.0], "lite"], [1, 2], ["depth", 1.0, "depth", 2.0]):
        with pytest.raises(UserError, match="OVERRIDES"):
            read_overrides(wrong)


def test_overrides_reach_the_network(make_config: Make) -> None:
    plain = build_backbone(make_config())
    other = build_backbone(make_config(OVERRIDES=[["squeeze_excitation", False], ["depth", 1.2]]))
    assert not [name for name, _ in other.named_parameters() if "squeeze_excitation" in name]
    assert len(list(other.blocks.children())) > len(list(plain.blocks.children()))


def test_a_tag_and_a_file_are_two_sources(make_config: Make) -> None:
    cfg = make_config(NAME="rexnet_1.0@nav_in1k", WEIGHTS="mine.pth")
    with pytest.raises(UserError, match="two sources"):
        build_backbone(cfg)
    with pytest.raises(UserError, match="two sources"):
        use_backbone(make_config(), "rexnet_1.0@nav_in1k", "mine.pth")


def test_synchronised_norms_train_on_cuda_only(make_config: Make) -> None:
    cfg = make_config(NORM="SyncBN")
    with pytest.raises(UserError, match="CUDA only"):
        check_config(cfg)
    check_config(cfg, training=False)
    cfg.MODEL.DEVICE = "cuda:1"
    check_config(cfg)


def test_another_backbone_passes_and_unread_settings_are_said(caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_cfg()
    check_config(cfg)
    assert not caplog.records
    cfg.MODEL.REXDET.NAME = "rexnet_1.3"
    check_config(cfg)
    assert "nothing reads MODEL.REXDET" in caplog.text


def test_one_override_changes_the_width_and_the_neck_follows(make_config: Make) -> None:
    for name, channels in (("rexnet_1.0", 185), ("rexnet_1.3", 240), ("rexnet_lite_1.0", 184)):
        cfg = make_config("build_retinanet_rexdet_fpn_backbone")
        merge_config(cfg, None, ["MODEL.REXDET.NAME", name, "MODEL.FPN.IN_FEATURES", "[res3, res4, res5]"])
        neck = build_backbone(cfg)
        assert neck.fpn_lateral5.in_channels == neck.top_block.p6.in_channels == channels
        assert neck.bottom_up.output_shape()["res5"].channels == channels
