"""The backbone: which features, which layers learn, and memory traded for time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rexdet.nets import Backbone, ReXNet
from rexdet.nets.layers import BatchNorm2d, FrozenBatchNorm2d

STAGE_OF_STEP = ["stem", *["res2"] * 3, *["res3"] * 2, *["res4"] * 6, *["res5"] * 5]


def vary_norms(network: nn.Module) -> None:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            with torch.no_grad():
                part.running_mean.normal_(0.0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0.0, 0.1)


def network(**arguments: object) -> ReXNet:
    torch.manual_seed(0)
    made = ReXNet(0.6, num_classes=2, **arguments)  # type: ignore[arg-type]
    vary_norms(made)
    return made


def total(features: dict[str, Tensor]) -> Tensor:
    return torch.stack([feature.float().square().mean() for feature in features.values()]).sum()


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    "names", [("res5", "res2", "res4", "res3"), ("res3", "res5"), ("penultimate", "expand5"), ("expand5", "res2")]
)
def test_features_come_in_the_order_asked_for(names: tuple[str, ...]) -> None:
    whole = network().eval()
    backbone = Backbone(copy.deepcopy(whole), names).eval()
    x = torch.randn(1, 3, 70, 51)
    with torch.no_grad():
        features, expected = backbone(x), whole.forward_features(x)
    assert tuple(features) == tuple(backbone.features) == names
    for name in names:
        assert torch.equal(features[name], expected[name])
        assert features[name].shape[1] == backbone.features[name].channels


@pytest.mark.parametrize(
    ("names", "complaint"),
    [(("res2", "res6"), "res6"), (("res2", "res2"), "twice"), ((), "empty"), ("res2", "list"), (("stem",), "stem")],
)
def test_wrong_feature_names_are_refused(names: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Backbone(network(), names)


def test_nothing_behind_the_last_feature_is_kept() -> None:
    backbone = Backbone(network(), ("res3",))
    assert not [name for name in backbone.state_dict() if name.startswith(("head", "penultimate", "blocks.5"))]


def test_state_dict_keys_are_the_networks() -> None:
    whole = network()
    own = whole.state_dict()
    backbone = Backbone(copy.deepcopy(whole), ("res2", "penultimate"))
    state = backbone.state_dict()
    assert set(state) == {name for name in own if not name.startswith("head.")}
    assert all(torch.equal(value, own[name]) for name, value in state.items())


@pytest.mark.parametrize("freeze_at", range(6))
def test_frozen_stages_stay_bit_identical(freeze_at: int) -> None:
    backbone = Backbone(network(), freeze_at=freeze_at).train()
    scale = nn.Parameter(torch.ones(()))
    before = snapshot(backbone)
    optimizer = torch.optim.SGD([*backbone.parameters(), scale], lr=0.05, momentum=0.9, weight_decay=0.1)
    for seed in range(3):
        x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (total(backbone(x)) * scale).backward()
        optimizer.step()
    frozen = ["stem", "res2", "res3", "res4", "res5"][:freeze_at]
    for name, value in backbone.state_dict().items():
        step = 0 if name.startswith("stem") else int(name.split(".")[1]) + 1
        if STAGE_OF_STEP[step] in frozen:
            assert torch.equal(value, before[name]), name
        elif not name.endswith("reduce.bias"):  # The norm behind it takes any constant away again: no gradient.
            assert not torch.equal(value, before[name]), name


def test_train_leaves_frozen_stages_in_evaluation_mode() -> None:
    backbone = Backbone(network(drop_path=0.5), freeze_at=3).eval().train()
    assert not backbone.stem.training
    assert all(not block.training for block in list(backbone.blocks.children())[:5])
    assert all(block.training for block in list(backbone.blocks.children())[5:])
    assert all(not p.requires_grad for p in backbone.blocks.get_submodule("4").parameters())


@pytest.mark.parametrize("freeze_at", [-1, 6, 7])
def test_freeze_at_out_of_range(freeze_at: int) -> None:
    with pytest.raises(ValueError, match="freeze_at"):
        Backbone(network(), freeze_at=freeze_at)


def test_frozen_norm_is_bit_equal_to_evaluation() -> None:
    norm = BatchNorm2d(16)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 2.0)
        norm.running_var[3] = 1e-9
        norm.running_var[5] = 0.0
        norm.weight.normal_()
        norm.bias.normal_()
    norm.eval()
    frozen = FrozenBatchNorm2d.from_trained(norm).train()
    for x in (torch.randn(2, 16, 9, 7), torch.randn(2, 16, 9, 7).to(memory_format=torch.channels_last)):
        assert torch.equal(frozen(x), norm(x))
    assert set(frozen.state_dict()) == {"weight", "bias", "running_mean", "running_var"}
    assert not list(frozen.parameters())
    frozen.load_state_dict(norm.state_dict())


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "GN"])
@pytest.mark.parametrize("freeze_at", [0, 2])
def test_activation_checkpointing_changes_nothing_but_memory(norm: str, freeze_at: int) -> None:
    results = []
    for checkpointing in (False, True):
        backbone = Backbone(
            network(drop_path=0.5, norm=norm), freeze_at=freeze_at, activation_checkpointing=checkpointing
        ).train()
        for seed in range(2):
            torch.manual_seed(seed)
            total(backbone(torch.randn(3, 3, 64, 64))).backward()
        gradients = {name: p.grad for name, p in backbone.named_parameters() if p.requires_grad}
        results.append((gradients, snapshot(backbone)))
    (plain_gradients, plain_state), (gradients, state) = results
    assert plain_gradients
    for name, gradient in plain_gradients.items():
        assert gradient is not None
        assert torch.equal(gradients[name], gradient), name
    for name, value in plain_state.items():
        assert torch.equal(state[name], value), name


def test_activation_checkpointing_saves_memory() -> None:
    kept = []
    for checkpointing in (False, True):
        backbone = Backbone(network(), activation_checkpointing=checkpointing).train()
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            total(backbone(torch.randn(2, 3, 96, 96)))
        parameters = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
        kept.append(sum(size for pointer, size in sizes.items() if pointer not in parameters))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_frozen_features_are_those_of_evaluation(norm: str) -> None:
    whole = network(norm=norm).eval()
    frozen = Backbone(copy.deepcopy(whole), freeze_at=5).train()
    x = torch.randn(2, 3, 65, 64)
    with torch.no_grad():
        expected = whole.forward_features(x)
    for name, feature in frozen(x).items():
        assert not feature.requires_grad
        error = (feature - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-5, name


def test_batch_of_one_trains_in_bfloat16_channels_last() -> None:
    backbone = Backbone(network(), freeze_at=2).train().to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(backbone(torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)))
    loss.backward()
    gradients = [p.grad for p in backbone.parameters() if p.requires_grad]
    assert gradients
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
