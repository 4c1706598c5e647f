"""A network that still sees passes; one with a random last stage or random statistics is flagged (CASES.md C70)."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rexdet.transfer.augment import Normaliser
from rexdet.transfer.framing import Framing, frame
from rexdet.transfer.images import StoredImage
from rexdet.transfer.sanity import check_before_run, norm_drift, told_apart
from rexdet.zoo import create_model, open_checkpoint


@pytest.fixture(scope="module")
def trained(shared_dir: Path) -> nn.Module:
    """The CIFAR-10 ResNet-20 of a publisher: 91.7%."""
    checkpoint = open_checkpoint(shared_dir / "data/checkpoints/resnet20-12fca82f.th")
    return create_model(str(checkpoint.network), weights=checkpoint).eval()


@pytest.fixture(scope="module")
def images(shared_dir: Path) -> Tensor:
    """64 test images of CIFAR-10, all classes, as that checkpoint wants them."""
    paths = sorted((shared_dir / "data/cifar10-png-test").rglob("*.png"))[::9][:64]
    pictures = [frame(StoredImage(path.name, str(path)).pixels(), Framing("whole", 32, 32)) for path in paths]
    pixels = open_checkpoint(shared_dir / "data/checkpoints/resnet20-12fca82f.th").pixels
    return Normaliser(pixels)(torch.stack(pictures))


def test_a_trained_network_passes(trained: nn.Module, images: Tensor) -> None:
    found = check_before_run(trained, images)
    assert found.suspicions == ()
    assert found.line.startswith("sanity: norms meet what they expect")
    assert found.told_apart is not None
    assert found.told_apart > 1.0
    assert found.as_metrics()["suspicions"] == 0.0


def test_it_leaves_the_network_as_it_is(trained: nn.Module, images: Tensor) -> None:
    network = copy.deepcopy(trained).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    check_before_run(network, images)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_random_last_stage_is_flagged(trained: nn.Module, images: Tensor) -> None:
    network = copy.deepcopy(trained)
    torch.manual_seed(0)
    last = [step.path for step in network.steps if step.stage == max(s.stage for s in network.steps)]  # type: ignore[union-attr]
    for path in last:
        for module in network.get_submodule(path).modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    found = check_before_run(network, images)
    assert any("running statistics" in suspicion for suspicion in found.suspicions)
    assert found.line.startswith("SUSPICIOUS")


def test_random_statistics_are_flagged(trained: nn.Module, images: Tensor) -> None:
    network = copy.deepcopy(trained)
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    assert any("running statistics" in suspicion for suspicion in check_before_run(network, images).suspicions)


def test_norms_that_no_training_touched_are_flagged(trained: nn.Module, images: Tensor) -> None:
    network = copy.deepcopy(trained)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[-1].reset_running_stats()
    assert any("no training has touched it" in suspicion for suspicion in check_before_run(network, images).suspicions)


def test_a_head_that_says_the_same_of_everything_is_flagged(trained: nn.Module, images: Tensor) -> None:
    network = copy.deepcopy(trained)
    nn.init.zeros_(network.head.weight)  # type: ignore[union-attr, arg-type]
    found = check_before_run(network, images)
    assert any("nearly the same of every image" in suspicion for suspicion in found.suspicions)
    assert check_before_run(network, images, has_own_head=False).suspicions == ()


def test_numbers_that_are_not_finite_are_flagged(images: Tensor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    network[1].running_var.fill_(torch.nan)
    assert len(check_before_run(network, images[:16, :, :8, :8]).suspicions) >= 1


def test_drift_by_hand() -> None:
    norm = nn.BatchNorm2d(3, eps=0.0)
    assert norm_drift(norm, torch.zeros(3), torch.ones(3)) == 0.0
    assert norm_drift(norm, torch.full((3,), 2.0), torch.ones(3)) == pytest.approx(2.0)
    assert norm_drift(norm, torch.zeros(3), torch.full((3,), 16.0)) == pytest.approx(2.0)
    assert norm_drift(norm, torch.tensor([0.0, 0.0, 9.0]), torch.ones(3)) == 0.0


def test_told_apart_by_hand() -> None:
    assert told_apart(100.0 * torch.eye(4)) == pytest.approx(torch.log(torch.tensor(4.0)).item(), abs=1e-6)
    assert told_apart(torch.tensor([[3.0, 1.0]]).repeat(5, 1)) == pytest.approx(0.0, abs=1e-12)


def test_too_few_images_are_refused(trained: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match="too little"):
        check_before_run(trained, images[:3])
