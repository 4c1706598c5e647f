"""RetinaNet over a genome of ours, and its baseline from equal initialisation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

import rexdet
from rexdet.bench.detector_sweep import sweep
from rexdet.detectron2 import check_config, merge_config, use_backbone
from rexdet.nets.complexity import count
from rexdet.zoo.costs import cost_of
from rexdet.zoo.genome import Genome, find_genome, write_genome


def load(name: str, *pairs: object) -> CfgNode:
    cfg = get_cfg()
    merge_config(cfg, rexdet.get_config(name), pairs)
    return cfg


def flat(cfg: CfgNode, place: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in cfg.items():
        leaves |= flat(value, f"{place}{key}.") if isinstance(value, CfgNode) else {f"{place}{key}": value}
    return leaves


def different(one: CfgNode, other: CfgNode) -> set[str]:
    return {key for key, value in flat(one).items() if flat(other)[key] != value}


def build(cfg: CfgNode) -> torch.nn.Module:
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def test_the_genome_is_one_of_ours_and_costs_no_more_than_its_base() -> None:
    name = load("retinanet_lwdna").MODEL.REXDET.NAME
    assert name.startswith("lwdna:")
    assert find_genome(name).network == "resnet50"
    assert cost_of(name).macs <= cost_of("resnet50").macs
    assert name in rexdet.list_models()


def test_the_baseline_differs_in_the_network_alone() -> None:
    genome = load("retinanet_lwdna")
    baseline = genome.clone()
    use_backbone(baseline, "resnet50")
    # The builders take FREEZE_AT for 0 on random weights, whatever stands there.
    assert different(genome, baseline) <= {"MODEL.REXDET.NAME", "MODEL.BACKBONE.FREEZE_AT"}
    assert (baseline.MODEL.REXDET.NORM, baseline.MODEL.WEIGHTS, baseline.MODEL.REXDET.WEIGHTS) == ("BN", "", "")
    assert baseline.MODEL.BACKBONE.FREEZE_AT == genome.MODEL.BACKBONE.FREEZE_AT == 0


def test_schedule_and_detector_are_those_of_the_3x_baseline() -> None:
    keys = different(load("retinanet_lwdna"), load("retinanet_r50_3x"))
    assert keys == {
        "MODEL.WEIGHTS",
        "MODEL.BACKBONE.NAME",
        "MODEL.BACKBONE.FREEZE_AT",
        "MODEL.REXDET.NAME",
        "MODEL.REXDET.NORM",
        "MODEL.RESNETS.OUT_FEATURES",
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "INPUT.FORMAT",
    }


def test_everything_learns_and_the_pyramid_follows_the_genome() -> None:
    cfg = load("retinanet_lwdna")
    detector, genome = build(cfg), find_genome(cfg.MODEL.REXDET.NAME)
    assert all(parameter.requires_grad for parameter in detector.parameters())
    widths = [genome.channels[f"stages.{stage}.0.projection"] for stage in (1, 2, 3)]
    assert [getattr(detector.backbone, f"fpn_lateral{level}").in_channels for level in (3, 4, 5)] == widths
    assert detector.backbone.top_block.p6.in_channels in (widths[-1], 256)
    baseline = cfg.clone()
    use_backbone(baseline, "resnet50")
    size = (1, 3, 256, 256)
    assert count(detector.backbone, size).macs < count(build(baseline).backbone, size).macs


def test_both_draw_their_weights_by_one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deviations by the outputs of each layer: sqrt(2 / (k * k * C_out))."""
    for name in (load("retinanet_lwdna").MODEL.REXDET.NAME, "resnet50"):
        torch.manual_seed(0)
        network = rexdet.create_model(name)
        convolution = network.get_submodule("stages.2.1.unit2.conv")
        expected = (2.0 / (9 * convolution.out_channels)) ** 0.5
        assert float(convolution.weight.detach().std()) == pytest.approx(expected, rel=0.02)
        assert torch.equal(network.get_submodule("stages.2.1.unit2.norm").weight, torch.ones(convolution.out_channels))


def test_two_steps_in_both_detectors() -> None:
    assert [row.problem for row in sweep([load("retinanet_lwdna").MODEL.REXDET.NAME])] == ["", ""]


@pytest.mark.parametrize("backbone", ["", "resnet50"])
def test_the_config_and_its_baseline_train(
    small_training: Callable[[CfgNode, Path], None], tmp_path: Path, backbone: str
) -> None:
    from detectron2.engine import DefaultTrainer

    cfg = load("retinanet_lwdna")
    if backbone:
        use_backbone(cfg, backbone)
    small_training(cfg, tmp_path)
    check_config(cfg)
    DefaultTrainer(cfg).train()
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    stem = saved["backbone.bottom_up.stem.conv.weight"]
    assert (stem.shape[0] == 64) == bool(backbone)


def test_a_genomes_file_may_lie_anywhere(tmp_path: Path) -> None:
    folder = tmp_path / "runs @home"
    folder.mkdir()
    path = folder / "one@two.yaml"
    write_genome(path, Genome(network="resnet18", channels={"stages.0.0.unit1": 40}))
    for name in (f"lwdna:{path}", f"nm2:1/lwdna:{path}"):
        cfg = load("faster_rcnn_rexnet")
        use_backbone(cfg, name)
        check_config(cfg)
        tensors = build(cfg).state_dict()
        assert tensors["backbone.bottom_up.stages.0.0.unit1.conv.weight"].shape[0] == 40
