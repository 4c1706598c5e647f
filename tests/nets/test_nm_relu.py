"""The N:M rule: which activations go, counted by what is executed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rexdet.inference import optimize_for_inference
from rexdet.inference.runners import relative_difference
from rexdet.nets import Backbone, ResNet, ReXNet
from rexdet.nets.complexity import count
from rexdet.nets.executed import ACTIVATION_MODULES, record
from rexdet.nets.nm_relu import NmReport, apply_nm_rule, parse_ratio
from rexdet.zoo.registry import skeleton

# torch's operators below every module and function. Gates are activations of another kind (sigmoid): not counted.
ACTIVATIONS = ("relu", "relu_", "hardtanh", "hardtanh_", "silu", "silu_", "leaky_relu", "leaky_relu_")


class Counting(TorchDispatchMode):
    """Counts the operators that run; knows nothing of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ran[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def executed(network: Callable[[Tensor], Any], side: int = 64) -> tuple[int, int]:
    """Convolutions and activations of one forward pass in evaluation mode."""
    if isinstance(network, nn.Module):
        network.eval()
    with torch.no_grad(), Counting() as counting:
        network(torch.zeros(1, 3, side, side))
    return counting.ran["convolution"], sum(counting.ran[name] for name in ACTIVATIONS)


def torchvision_network(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        models = pytest.importorskip("torchvision.models")
        network: nn.Module = models.get_model(name, weights=None, num_classes=10)
        return network

    return build


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "VGG-16": torchvision_network("vgg16_bn"),
    "ResNet-18 of torchvision": torchvision_network("resnet18"),
    "ResNet-50 of torchvision": torchvision_network("resnet50"),
    "ResNeXt-50 of torchvision": torchvision_network("resnext50_32x4d"),
    "DenseNet-121": torchvision_network("densenet121"),
    "MobileNetV2": torchvision_network("mobilenet_v2"),
    "ResNet-50": lambda: ResNet(num_classes=10),
    "ResNet-20": lambda: ResNet((3, 3, 3), block="basic", base_width=16, stem="cifar", num_classes=10),
    "ResNeXt-50": lambda: ResNet(cardinality=32, base_width=4, num_classes=10),
    "ReXNet": lambda: ReXNet(num_classes=10),
    "ReXNet-lite": lambda: ReXNet(lite=True, num_classes=10),
}
# By hand from each network's plan, at 2:1 and at 3:1. Convolutions of the trunk, activations of the trunk, removed.
# VGG: every first of two, of three, among 13. ResNet: the first of each block (and the second, where there are three
# convolutions); DenseNet: the first of each dense layer. MobileNetV2 and ReXNet: the expansions, and in the chain from
# the stem through the blocks without a sum every other one; no branch is left linear at 3:1.
EXPECTED = {
    "VGG-16": (13, 13, 7, 9),
    "ResNet-18 of torchvision": (20, 17, 8, 8),
    "ResNet-50 of torchvision": (53, 49, 16, 32),
    "ResNeXt-50 of torchvision": (53, 49, 16, 32),
    "DenseNet-121": (120, 121, 58, 58),
    "MobileNetV2": (52, 35, 17, 19),
    "ResNet-50": (53, 49, 16, 32),
    "ResNet-20": (21, 19, 9, 9),
    "ResNeXt-50": (53, 49, 16, 32),
    "ReXNet": (49, 33, 16, 17),
    "ReXNet-lite": (49, 33, 16, 17),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_executed_agrees_with_the_report(family: str) -> None:
    convolutions, activations, *removed = EXPECTED[family]
    for ratio, expected in zip(("2:1", "3:1"), removed, strict=True):
        with torch.device("meta"):
            network = FAMILIES[family]()
            keys, before = list(network.state_dict()), executed(network)
            report = apply_nm_rule(network, ratio)
            after = executed(report.network)
        assert (report.convolutions, len(report.removed) + len(report.kept)) == (convolutions, activations)
        assert len(report.removed) == expected
        assert before[0] == after[0]
        assert before[1] - after[1] == expected
        assert before[1] == activations + len(report.others)
        assert list(report.network.state_dict()) == keys
        places = [site.activation for site in (*report.removed, *report.kept)]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_to_one_leaves_the_network_as_it_is(family: str) -> None:
    with torch.device("meta"):
        network = FAMILIES[family]()
    modules = list(network.modules())
    report = apply_nm_rule(network, "1:1")
    assert report.network is network
    assert list(network.modules()) == modules
    assert report.removed == ()
    assert len(report.kept) == EXPECTED[family][1]


@pytest.mark.parametrize(
    ("family", "leaky"),
    [
        ("ResNet-18 of torchvision", False),
        ("ResNet-18 of torchvision", True),
        ("DenseNet-121", False),
        ("ResNeXt-50", False),
        ("MobileNetV2", True),
        ("ReXNet", False),
    ],
)
def test_a_step_of_training_changes_every_convolution(family: str, leaky: bool) -> None:
    torch.manual_seed(0)
    network = apply_nm_rule(FAMILIES[family](), "2:1", leaky=leaky).network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    F.cross_entropy(network(torch.randn(2, 3, 64, 64)), torch.tensor([1, 2])).backward()
    optimizer.step()
    weights = {name: value for name, value in network.named_parameters() if value.dim() == 4}
    assert weights
    assert all(value.isfinite().all() and not torch.equal(value, before[name]) for name, value in weights.items())
    report = count(network, (1, 3, 64, 64))
    assert report == count(FAMILIES[family](), (1, 3, 64, 64))


class Chain(nn.Module):
    """Convolutions one after the other, each with its norm and ReLU."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.units = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()) for _ in range(length))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.units(x)


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        ("1:1", "++++++++++++"),
        ("2:1", "-+-+-+-+-+-+"),
        ("3:2", "-++-++-++-++"),
        ("4:3", "-+++-+++-+++"),
        ("3:1", "--+--+--+--+"),
        ("4:1", "---+---+---+"),
        ("4:2", "--++--++--++"),
        ("5:3", "--+++--+++--"),
        ("12:1", "-----------+"),
        ("13:1", "-----------+"),  # All would go; the last one stays.
        ("4:4", "++++++++++++"),
    ],
)
def test_of_every_n_units_the_last_m_keep_their_activation(ratio: str, kept: str) -> None:
    network = Chain(12)
    report = apply_nm_rule(network, ratio)
    assert "".join("+" if isinstance(unit[2], nn.ReLU) else "-" for unit in network.units) == kept
    assert [site.position for site in report.removed] == [place for place, sign in enumerate(kept) if sign == "-"]
    assert {site.chain for site in (*report.removed, *report.kept)} == {0}
    assert [site.convolution for site in report.kept] == [
        f"units.{place}.0" for place, sign in enumerate(kept) if sign == "+"
    ]


@pytest.mark.parametrize(("ratio", "units"), [("2:1", "1"), ("3:2", "1"), ("4:3", "1"), ("3:1", "12"), ("4:2", "12")])
def test_counting_restarts_at_each_residual_branch(ratio: str, units: str) -> None:
    network = ResNet((2, 2, 2, 2), num_classes=10)
    report = apply_nm_rule(network, ratio)
    blocks = [f"stages.{stage}.{block}" for stage in range(4) for block in range(2)]
    assert [site.activation for site in report.removed] == [
        f"{block}.unit{unit}.activation" for block in blocks for unit in units
    ]
    # The stem is a chain of its own, and the activation behind a sum is nobody's own.
    assert report.kept[0].activation == "stem.activation"
    assert [site.activation for site in report.kept if site.follows == "sum"] == [f"{b}.activation" for b in blocks]


def test_after_sums_takes_the_sums_activation_for_the_last_units() -> None:
    def removed(ratio: str, **arguments: Any) -> list[str]:
        report = apply_nm_rule(ResNet((1, 2, 1, 1), num_classes=10, **arguments), ratio, after_sums=True)
        return [site.activation for site in report.removed if site.activation.startswith("stages.1.")]

    first, second = (f"stages.1.{block}" for block in (0, 1))
    parts = ("unit1.activation", "activation")
    assert removed("2:1") == [f"{block}.{part}" for block in (first, second) for part in parts]
    assert removed("2:1", block="basic") == [f"{first}.unit1.activation", f"{second}.unit1.activation"]
    # Two convolutions at 3:1: both would go, so the last one, behind the sum, stays.
    assert removed("3:1", block="basic") == [f"{first}.unit1.activation", f"{second}.unit1.activation"]


def test_one_relu_for_several_calls_is_told_apart() -> None:
    network = torchvision_network("resnet18")()
    report = apply_nm_rule(network, "2:1")
    assert report.network is network
    assert report.removed[0].activation == "layer1.0.relu[1]"
    assert [site.activation for site in report.kept[:2]] == ["relu", "layer1.0.relu[2]"]
    assert [site.follows for site in report.kept[:2]] == ["convolution", "sum"]
    fresh = torchvision_network("resnet18")()
    fresh.load_state_dict(network.state_dict())
    network.load_state_dict(fresh.state_dict())


class Functional(nn.Module):
    """Its activations are functions, called in one forward with the sum that a shortcut makes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.register_buffer("shift", torch.zeros(4, 1, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x)) * self.scale
        out = F.relu(self.conv2(x)) + self.shift
        out = self.conv2(out)
        out = torch.relu_(out + x)
        return self.head(F.relu(out.mean((2, 3))))


def test_functions_are_rewritten_in_the_forward_that_calls_them() -> None:
    torch.manual_seed(0)
    network = Functional()
    keys, reference = list(network.state_dict()), copy.deepcopy(network)
    report = apply_nm_rule(network, "2:1")
    assert [site.activation for site in report.removed] == ["relu()[2]"]
    assert [(site.activation, site.follows) for site in report.kept] == [
        ("relu()[1]", "convolution"),
        ("relu()[3]", "sum"),
        ("relu()[4]", "activation"),
    ]
    assert list(report.network.state_dict()) == keys
    x = torch.randn(2, 3, 5, 5)
    start = F.relu(reference.conv1(x)) * reference.scale
    out = reference.conv2(reference.conv2(start) + reference.shift)
    expected = reference.head(F.relu(F.relu(out + start).mean((2, 3))))
    assert torch.equal(report.network(x), expected)
    assert torch.equal(copy.deepcopy(report.network)(x), expected)


class Shared(nn.Module):
    """One block, run twice; one ReLU, in two places of one sequence."""

    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), relu, nn.Conv2d(3, 3, 1), relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


def test_a_module_that_stands_twice_in_a_sequence_is_replaced_once() -> None:
    network = Shared(nn.ReLU())
    report = apply_nm_rule(network, "2:1")
    assert [type(module).__name__ for module in network.block] == ["Conv2d", "RemovedActivation", "Conv2d", "ReLU"]
    assert report.convolutions == 4
    assert [site.activation for site in report.removed] == ["block.1", "block.1"]


@pytest.mark.parametrize(
    ("build", "ratio", "expected"),
    [
        (lambda: Shared(nn.ReLU()), "3:2", "runs 2 times"),  # Positions 0 to 3: one activation would have to do both.
        (lambda: Shared(nn.PReLU()), "2:1", "weights of its own"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 1)), "2:1", "no convolution"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 3)), "2:1", "give an example"),
        (lambda: torch.jit.script(Chain(2)), "2:1", "is scripted"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(build: Any, ratio: str, expected: str) -> None:
    network = build()
    modules = [type(module) for module in network.modules()]
    with pytest.raises(ValueError, match=expected):
        apply_nm_rule(network, ratio)
    assert [type(module) for module in network.modules()] == modules


class Untraceable(nn.Module):
    """Its forward decides by numbers, which torch.fx has not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        return F.relu(self.conv2(x if x.shape[2] > 1 else x * 2))


class Different(Untraceable):
    """Drops numbers in training by a function."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.conv1(x)), training=self.training)
        return F.relu(self.conv2(x))


@pytest.mark.parametrize(
    ("kind", "expected"), [(Untraceable, "cannot trace it"), (Different, "other things in training")]
)
def test_a_forward_that_cannot_be_rewritten_is_told(kind: type[nn.Module], expected: str) -> None:
    network = kind().eval()
    with pytest.raises(ValueError, match=expected):
        apply_nm_rule(network, "2:1")
    assert not network.training
    assert apply_nm_rule(network, "1:1").network is network


class Optional(nn.Module):
    """Has a forward that a trace misreads, since a traced argument is never None; and a block whose ReLU it borrows."""

    def __init__(self, borrows: bool) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
        self.block = Block()
        self.borrows = borrows

    def forward(self, x: Tensor) -> Tensor:
        return self.inner[1](self.block.conv1(self.inner(x))) if self.borrows else self.block(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        shortcut = x if shortcut is None else shortcut
        return self.relu(self.conv2(self.relu(self.conv1(x))) + shortcut)


@pytest.mark.parametrize("borrows", [True, False])
def test_a_network_that_would_do_other_things_is_left_as_it_was(borrows: bool) -> None:
    network = Optional(borrows)
    modules = dict(network.named_modules())
    with pytest.raises(ValueError, match="cannot be changed faithfully"):
        apply_nm_rule(network, "3:1")
    assert dict(network.named_modules()) == modules


def test_an_example_stands_in_where_no_image_of_the_usual_size_fits() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    report = apply_nm_rule(network, "2:1", example=torch.zeros(1, 3, 6, 6))
    assert [site.activation for site in report.removed] == ["1"]
    assert [site.activation for site in report.kept] == ["3"]


def test_a_rule_is_applied_once() -> None:
    for build in (lambda: ResNet(num_classes=10), torchvision_network("resnet18")):
        for leaky in (False, True):
            network = apply_nm_rule(build(), "2:1", leaky=leaky).network
            with pytest.raises(ValueError, match="has an N:M rule already"):
                apply_nm_rule(network, "1:1")
    assert apply_nm_rule(apply_nm_rule(ResNet(), "1:1").network, "2:1").removed


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (182, r"3:2 without quotes is 182 in YAML"),
        (121, r"2:1 without quotes is 121 in YAML"),
        (3, "the ratio is the number 3; write it as text"),
        (1.5, r"the ratio is 1\.5; write"),
        (True, "the ratio is True; write"),
        (None, "the ratio is None; write"),
        ("1:2", "more activations than convolutions"),
        ("2:0", "write N convolutions"),
        ("0:0", "write N convolutions"),
        ("02:1", "write N convolutions"),
        ("2:1 ", "write N convolutions"),
        ("2", "write N convolutions"),
        ("٢:1", "write N convolutions"),
        ("", "write N convolutions"),
    ],
)
def test_what_is_no_ratio_is_told(ratio: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        apply_nm_rule(Chain(2), ratio)


def test_ratios_are_read() -> None:
    assert [parse_ratio(text) for text in ("1:1", "2:1", "3:2", "10:10")] == [(1, 1), (2, 1), (3, 2), (10, 10)]


def test_squeeze_excitation_is_left_alone() -> None:
    report = apply_nm_rule(ReXNet(), "2:1")
    assert len(report.others) == 13
    assert all(place.endswith("squeeze_excitation.activation") for place in report.others)
    # The activation behind it belongs to the depthwise convolution before it.
    behind = {site.activation: site for site in (*report.removed, *report.kept)}["blocks.5.activation"]
    assert (behind.convolution, behind.position) == ("blocks.5.depthwise.conv", 1)


def test_the_leaky_form_is_the_mean_with_and_without() -> None:
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, 4)
    for activation in (nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.LeakyReLU(0.1)):
        network = nn.Sequential(nn.Conv2d(3, 3, 1), copy.deepcopy(activation), nn.Conv2d(3, 3, 1), nn.ReLU())
        report = apply_nm_rule(network, "2:1", leaky=True)
        assert report.leaky
        assert torch.allclose(network[1](z * 10), (z * 10 + activation(z * 10)) / 2, atol=1e-6)
    # Up to a factor, which a batch norm takes out, that is z + ReLU(z) and a leaky ReLU of slope 1/2.
    leaky = apply_nm_rule(Chain(2), "2:1", leaky=True).network.units[0][2]
    assert torch.equal(leaky(z), F.leaky_relu(z, 0.5))
    norm = nn.BatchNorm2d(3)
    assert torch.allclose(norm(leaky(z)), norm(z + F.relu(z)), atol=1e-4)


@pytest.mark.parametrize("kind", ACTIVATION_MODULES, ids=lambda kind: kind.__name__)
def test_every_kind_of_activation_is_one_call(kind: type[nn.Module]) -> None:
    arguments = (0.1, 20.0) if kind is nn.Threshold else ()
    network = nn.Sequential(nn.Conv2d(3, 3, 1), kind(*arguments), nn.Conv2d(3, 3, 1), nn.ReLU())
    (first, second) = record(network).activations()
    assert (first.module, first.turn, second.turn) == (network[1], 0, 1)
    if kind is not nn.PReLU:
        assert [site.activation for site in apply_nm_rule(network, "2:1").removed] == ["1"]


def test_functions_have_a_leaky_form_where_they_take_nothing_but_a_map() -> None:
    class Two(nn.Module):
        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.conv1, self.conv2, self.function = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(self.conv2(self.function(self.conv1(x))))

    x = torch.randn(1, 3, 4, 4)
    for function in (F.relu, F.silu, F.relu6, lambda z: z.relu_()):
        network = Two(function)
        hidden = network.conv1(x)
        expected = function(network.conv2((hidden + function(hidden.clone())) / 2))
        report = apply_nm_rule(network, "2:1", leaky=True)
        assert torch.allclose(report.network(x), expected, atol=1e-6)
        assert list(report.network.state_dict()) == list(network.state_dict())
    with pytest.raises(ValueError, match="numbers of its own"):
        apply_nm_rule(Two(F.elu), "2:1", leaky=True)


def test_activations_before_convolutions_are_told_apart_too() -> None:
    """A block of the second form of ResNet: norm and activation stand before the convolution."""

    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv1, self.conv2 = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(3) for _ in range(3))
            self.relu1, self.relu2, self.relu3 = (nn.ReLU() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            out = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
            return self.relu3(self.norm3(out + x))

    report = apply_nm_rule(Before(), "2:1")
    assert [site.activation for site in report.removed] == ["relu2"]
    assert [(site.activation, site.follows) for site in report.kept] == [("relu1", "fork"), ("relu3", "sum")]


def test_frozen_norms_change_nothing_about_the_rule() -> None:
    frozen, usual = (apply_nm_rule(ResNet((1, 1, 1, 1), norm=norm), "2:1") for norm in ("FrozenBN", "BN"))
    assert frozen.removed == usual.removed
    assert frozen.kept == usual.kept


def test_the_leaky_form_leaves_as_many_activations_as_there_were() -> None:
    for family in ("ResNet-18 of torchvision", "ResNet-50", "ReXNet"):
        before = executed(FAMILIES[family]())
        assert executed(apply_nm_rule(FAMILIES[family](), "2:1", leaky=True).network) == before


def test_the_report_says_what_went() -> None:
    report = apply_nm_rule(ResNet((1, 1, 1), block="basic", base_width=16, stem="cifar"), "2:1")
    assert isinstance(report, NmReport)
    lines = report.text().splitlines()
    assert lines[0] == "2:1: 3 of 7 activations removed, 9 convolutions"
    assert lines[1] == "kept       stem.activation (behind a convolution, stem.conv)"
    assert lines[2] == "removed    stages.0.0.unit1.activation (behind a convolution, stages.0.0.unit1.conv)"
    assert lines[3] == "kept       stages.0.0.activation (behind a sum, stages.0.0.unit2.conv)"
    assert len(lines) == 8


def test_a_backbone_freezes_and_trains_under_the_rule() -> None:
    for network in (ResNet((1, 1, 1, 1), num_classes=3), ReXNet(num_classes=3)):
        backbone = Backbone(apply_nm_rule(network, "2:1").network, freeze_at=2, activation_checkpointing=True).train()
        maps = backbone(torch.randn(2, 3, 64, 64))
        sum(value.mean() for value in maps.values()).backward()
        learning = [value for value in backbone.parameters() if value.requires_grad]
        assert learning
        assert all(value.grad is not None for value in learning)
        assert len(learning) < len(list(backbone.parameters()))
        with pytest.raises(ValueError, match="has an N:M rule already"):
            apply_nm_rule(backbone, "2:1")


def varied(network: nn.Module) -> nn.Module:
    """The network in evaluation mode with the statistics of a trained one."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            with torch.no_grad():
                part.running_mean.normal_(0.0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("family", ["ResNet-20", "ResNeXt-50", "ResNet-18 of torchvision", "MobileNetV2", "ReXNet"])
def test_folding_and_export_keep_the_counts(family: str) -> None:
    torch.manual_seed(0)
    network = varied(apply_nm_rule(FAMILIES[family](), "2:1").network)
    convolutions, activations = executed(network)
    example = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        reference = network(example)
    folded = optimize_for_inference(network, example, "eager")
    assert folded.difference < 1e-4
    assert executed(folded) == (convolutions, activations)
    program = torch.export.export(network, (example,), strict=False)
    ran = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    found = sum(number for name, number in ran.items() if name.split(".")[1] in ACTIVATIONS)
    assert sum(number for name, number in ran.items() if "conv" in name) == convolutions
    assert found == activations
    with torch.no_grad():
        assert relative_difference(program.module()(example), reference) < 1e-5


def test_the_onnx_file_has_as_many_activations() -> None:
    onnx = pytest.importorskip("onnx")
    from rexdet.inference.export import onnx_bytes

    network = ResNet((1, 1, 1), block="basic", base_width=16, stem="cifar", num_classes=10)
    report = apply_nm_rule(network, "2:1")
    model = onnx.load_from_string(onnx_bytes(varied(report.network), torch.randn(1, 3, 64, 64)))
    ran = Counter(node.op_type for node in model.graph.node)
    assert (ran["Conv"], ran["Relu"]) == (report.convolutions, len(report.kept))


def test_the_documented_counts_are_those_of_the_rule(repository: Path) -> None:
    lines = (repository / "docs" / "nm-relu.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    head, *networks = rows
    ratios = head[3:]
    assert ratios == ["2:1", "3:2", "4:3", "3:1"]
    assert len(networks) == 9
    for row, (name, convolutions, total, *removed) in enumerate(networks):
        package, _, base = name.rpartition(":")
        # All 36 take a while: one ratio a network, each of them several times.
        column = row % len(ratios)
        with torch.device("meta"):
            report = apply_nm_rule(torchvision_network(base)() if package else skeleton(base), ratios[column])
        found = (report.convolutions, len(report.removed) + len(report.kept), len(report.removed))
        assert (convolutions, total, removed[column]) == tuple(map(str, found)), name
