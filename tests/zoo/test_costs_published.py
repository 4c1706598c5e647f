"""What is counted beside what was published: sizes, costs, accuracies of checkpoints."""

from __future__ import annotations

from decimal import Decimal

import pytest

import rexdet
from rexdet import published
from rexdet.zoo.costs import (
    NEEDS_A_FILE,
    cost_of,
    is_backbone,
    matching_networks,
    network_skeleton,
    networks_printed_with,
    printed_of,
)
from rexdet.zoo.published import entries
from rexdet.zoo.ssdlite import SSDLite, has_ssdlite_maps, ssdlite_cost

BUILT = sorted(
    {name for network in published.networks().values() for name in network.names} & set(rexdet.list_models())
)


@pytest.mark.parametrize("name", BUILT)
def test_a_published_size_or_cost_of_a_classifier_is_the_one_counted(name: str) -> None:
    cost = cost_of(name)
    counted = {
        "parameters": cost.parameters,
        "parameters_millions": cost.parameters / 1e6,
        "macs_billions": cost.macs / 1e9,
    }
    cells = [cell for cell in published.cells(name) if cell.metric in counted and not cell.detector]
    for cell in cells:
        if cell.metric == "parameters":
            assert counted[cell.metric] == cell.value
            continue
        # Some round and some cut off (34M for 34.7M): a step of the last digit. Others say "about", and the paper's
        # tables differ among each other (0.86, 0.88 and 0.9 for one network): 2%.
        step = 10.0 ** int(Decimal(str(cell.value)).as_tuple().exponent)
        assert abs(counted[cell.metric] - cell.value) <= max(step, 0.02 * cell.value), cell.cited()


def test_every_network_of_ours_that_is_published_has_our_name_and_the_other_way_round() -> None:
    for network in published.networks().values():
        ours = [name for name in network.names if ":" not in name]
        assert all(name in NEEDS_A_FILE or matching_networks(name) == [name] for name in ours), network.id
        assert len(ours) <= 1
        if ours:
            assert network.id == ours[0] == network.names[0]


@pytest.mark.parametrize(
    "entry", [entry for entry in entries() if entry.top1 is not None], ids=lambda entry: entry.name
)
def test_the_accuracy_of_a_checkpoint_is_among_the_published_ones(entry: object) -> None:
    values = {cell.value for cell in published.cells(entry.name, task="imagenet", metric="top1")}  # type: ignore[attr-defined]
    if values:
        assert entry.top1 in values  # type: ignore[attr-defined]
    else:
        assert entry.top1_from  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnext29_8x64d_cifar", 34.4),
        ("resnext29_16x64d_cifar", 68.1),
        ("resnext50_32x4d", 25.0),
        ("resnext101_32x8d", 88.8),
        ("resnext101_64x4d", 83.5),
    ],
)
def test_a_resnext_has_its_published_size(name: str, millions: float) -> None:
    """Case C80, Keras-ResNeXt#6: 89.7M in the place of 34.4M; 32x8d built another network."""
    (published_size,) = (cell.value for cell in published.cells(name, metric="parameters"))
    counted = cost_of(name).parameters
    assert counted == published_size
    assert counted / 1e6 == pytest.approx(millions, abs=0.1)


def test_taps_of_the_cifar_forms_are_three() -> None:
    assert cost_of("resnext29_8x64d_cifar").channels == {"res2": 256, "res3": 512, "res4": 1024}
    assert cost_of("rexnet_1.0").channels == {"res2": 38, "res3": 61, "res4": 128, "res5": 185}


def test_a_size_given_is_the_size_counted_at() -> None:
    assert cost_of("rexnet_1.0", 112).macs < cost_of("rexnet_1.0").macs / 3
    assert cost_of("rexnet_1.0", 112).size == 112


def test_ssdlite_over_block_outputs_would_not_give_the_printed_sizes() -> None:
    """The rule is the expansion of the first stride-32 block and the last convolution; res4 and res5 give 4.40M."""
    assert round(ssdlite_cost("rexnet_1.0").parameters / 1e6, 1) == 5.7
    from rexdet.nets.complexity import count_parameters
    from rexdet.nets.features import Backbone

    other = SSDLite(Backbone(network_skeleton("rexnet_1.0"), ("res4", "res5")))
    assert count_parameters(other) / 1e6 == pytest.approx(4.40, abs=0.01)
    assert not has_ssdlite_maps("resnet50")
    with pytest.raises(rexdet.UserError, match="resnet50 has no maps expand5 and penultimate"):
        ssdlite_cost("resnet50")


def test_what_the_paper_prints_is_found_by_our_names() -> None:
    assert networks_printed_with(["ssdlite"]) == ["rexnet_0.9", "rexnet_1.0", "rexnet_1.3"]
    printed = printed_of("rexnet_1.0", "mask_rcnn")
    assert printed is not None
    assert (printed.parameters_millions, printed.macs_billions, printed.ap) == (23.3, 124.1, 38.9)
    assert printed_of("rexnet_1.4", "mask_rcnn") is None


def test_a_name_that_is_not_listed_is_its_own_pattern() -> None:
    assert matching_networks("resnext50_16x8d") == ["resnext50_16x8d"]
    assert matching_networks("rexnet_9.?") == matching_networks("resnet50_lwdna") == []
    with pytest.raises(rexdet.UserError, match="did you mean"):
        matching_networks("resnext50_32x4")
    assert matching_networks("rexnet_1.[01]") == ["rexnet_1.0", "rexnet_1.1"]
    with pytest.raises(rexdet.UserError, match="leave @tv_in1k out"):
        matching_networks("resnet50@tv_in1k")


@pytest.mark.parametrize(
    ("name", "parameters", "channels"),
    [
        # Sources: torchvision's metadata; timm's results-imagenet.csv.
        ("torchvision:mobilenet_v2", 3_504_872, [24, 32, 96, 320]),
        ("nm2:1/timm:resnet18", 11_689_512, [64, 128, 256, 512]),
    ],
)
def test_networks_of_other_packages_are_counted_by_their_name(name: str, parameters: int, channels: list[int]) -> None:
    pytest.importorskip(name.split("/")[-1].partition(":")[0])
    assert matching_networks(name) == [name]
    cost = cost_of(name)
    assert (cost.parameters, list(cost.channels.values()), cost.detection) == (parameters, channels, True)
    assert is_backbone(name)
    assert not has_ssdlite_maps(name)


def test_a_transformer_is_counted_and_is_no_backbone() -> None:
    pytest.importorskip("timm")
    cost = cost_of("timm:vit_tiny_patch16_224")
    assert (cost.parameters, cost.channels, cost.detection) == (5_717_416, {}, False)
    with pytest.raises(rexdet.UserError, match="cannot be counted for an image of 64 x 64"):
        cost_of("timm:vit_tiny_patch16_224", 64)
