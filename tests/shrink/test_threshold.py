"""One threshold over sorted scores: floors, costs, scales, and how long it takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rexdet.errors import UserError
from rexdet.shrink.coupling import Coupling, trace
from rexdet.shrink.threshold import floor_width, floors, protected, shrink
from rexdet.zoo.genome import Genome
from rexdet.zoo.registry import skeleton

# The x2 ResNet-50 and the paper's command, --ratio 0.23: what it may cost, in MACs.
WIDENED, TARGET, TOLERANCE = 16_116_613_120, 3.707e9, 0.016e9


def wide_skeleton(name: str, width: int) -> dict[str, int]:
    return {path: width * channels for path, channels in skeleton(name).channels.items()}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def resnet50() -> Coupling:
    network = skeleton("resnet50", channels=wide_skeleton("resnet50", 2))
    return trace(network, (3, 224, 224))


@pytest.fixture(scope="module")
def small() -> Coupling:
    return trace(skeleton("resnet20b_cifar", channels=wide_skeleton("resnet20b_cifar", 2)), (3, 32, 32))


def random_scores(coupling: Coupling, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(coupling.size)


def test_widening_by_two_costs_what_was_counted_for_it(resnet50: Coupling) -> None:
    assert resnet50.macs(np.ones(resnet50.size, dtype=bool)) == WIDENED


def test_floors_of_the_papers_command(resnet50: Coupling) -> None:
    widths = resnet50.widths(protected(resnet50, random_scores(resnet50), remain=0.4, linear=0.45))
    assert widths["stem.conv"] == 51
    for stage, (inner, stream) in enumerate(zip((51, 102, 204, 409), (204, 409, 819, 1843), strict=True)):
        for path, width in widths.items():
            if path.startswith(f"stages.{stage}."):
                assert width == (inner if path.split(".")[3] in ("unit1", "unit2") else stream), path


def test_every_vector_on_its_floor_costs_2_65_thousand_million(resnet50: Coupling) -> None:
    keep = protected(resnet50, random_scores(resnet50), remain=0.4, linear=0.45)
    assert resnet50.macs(keep) / 1e9 == pytest.approx(2.65, abs=0.005)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_the_papers_ratio_is_met_whatever_the_scale_of_the_scores_in_less_than_a_second(
    resnet50: Coupling, scale: float
) -> None:
    scores = random_scores(resnet50)
    started = time.perf_counter()
    found = shrink(resnet50, scores * scale, int(0.23 * WIDENED))
    assert time.perf_counter() - started < 1.0
    assert found.macs == pytest.approx(TARGET, abs=TOLERANCE)
    assert found.macs <= 0.23 * WIDENED
    assert np.array_equal(found.keep, shrink(resnet50, scores, int(0.23 * WIDENED)).keep)
    assert found.macs == resnet50.macs(found.keep)


def test_it_is_the_lowest_threshold_that_stays_within_the_target(small: Coupling) -> None:
    scores, target = random_scores(small), 45_000_000
    found = shrink(small, scores, target)
    least = protected(small, scores, remain=0.4, linear=0.45)
    assert np.array_equal(found.keep, least | (scores >= found.threshold))
    following = scores[~found.keep].max()
    assert small.macs(least | (scores >= following)) > target


def test_scores_far_apart_in_scale_are_still_told_apart(small: Coupling) -> None:
    # A step of 0.01 sees one score only; sorting sees their order.
    scores = 10.0 ** -(random_scores(small) * 200)
    assert shrink(small, scores, 45_000_000).macs == pytest.approx(45e6, rel=0.05)


def test_equal_scores_go_together(small: Coupling) -> None:
    found = shrink(small, np.ones(small.size), 45_000_000)
    least = protected(small, np.ones(small.size), remain=0.4, linear=0.45)
    assert np.array_equal(found.keep, least)
    assert found.threshold == np.inf
    everything = shrink(small, np.ones(small.size), 10**12)
    assert everything.keep.all()


def test_no_layer_ever_gets_empty(small: Coupling) -> None:
    # C82: a target below one channel a layer.
    scores = random_scores(small)
    keep = protected(small, scores, remain=0.0, linear=0.0)
    assert set(small.widths(keep).values()) == {1, 10}
    cost = small.macs(keep)
    assert shrink(small, scores, cost, remain=0.0, linear=0.0).macs == cost
    with pytest.raises(UserError, match=r"the floors alone cost .* choose a higher ratio"):
        shrink(small, scores, cost - 1, remain=0.0, linear=0.0)


def test_floors_round_down_and_keep_one() -> None:
    assert [floor_width(channels, 0.4) for channels in (1, 2, 3, 128, 4096)] == [1, 1, 1, 51, 1638]


def test_a_vector_repeated_over_groups_has_the_floor_of_one_group() -> None:
    genome = Genome(network="resnext29_8x64d_cifar", channels={"stem": 64})
    coupling = trace(skeleton(genome.network), (3, 32, 32))
    fewest = {len(classes): least for classes, _, least in floors(coupling, remain=0.4, linear=0.45)}
    assert fewest[64] == 25  # The first stage's width inside a group, and not int(0.4 * 512).
    assert fewest[128] == 51
    widths = coupling.widths(protected(coupling, random_scores(coupling), remain=0.4, linear=0.45))
    assert widths["stages.0.1.unit2.conv"] == 8 * 25


@pytest.mark.parametrize("name", ["rexnet_1.0", "resnet20_cifar"])
def test_overlapping_vectors_do_not_lift_each_others_floors(name: str) -> None:
    size = 32 if "cifar" in name else 224
    coupling = trace(skeleton(name), (3, size, size))
    keep = protected(coupling, random_scores(coupling), remain=0.4, linear=0.45)
    full = {layer.path: len(layer.out_classes) for layer in coupling.layers if layer.is_convolution}
    widths = coupling.widths(keep)
    for path, channels in full.items():
        share = 0.45 if path == "penultimate.conv" or (name != "rexnet_1.0" and path.startswith("stages.2.")) else 0.4
        assert widths[path] >= floor_width(channels, share if "unit1" not in path else 0.4), path
    assert coupling.macs(keep) < 0.21 * coupling.macs(np.ones(coupling.size, dtype=bool))


def test_scores_that_are_not_finite_are_refused(small: Coupling) -> None:
    scores = random_scores(small)
    scores[5] = np.nan
    with pytest.raises(UserError, match="not finite"):
        shrink(small, scores, 45_000_000)
