"""The transfer harness beside what it is measured by: a probe's path, the extraction of features, fine-tuning.

Every figure is a ratio of two medians that were measured in turn in one run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from rexdet.bench.alternate import alternate
from rexdet.errors import UserError
from rexdet.transfer.augment import Normaliser
from rexdet.transfer.features import Extractor
from rexdet.transfer.finetune import train
from rexdet.transfer.framing import frame
from rexdet.transfer.images import ArrayImage, ImageSet, Listing
from rexdet.transfer.optimise import make_optimiser
from rexdet.transfer.probe import PENALTIES
from rexdet.transfer.protocols import Protocol
from rexdet.transfer.softmax_regression import SoftmaxRegression, Solution
from rexdet.transfer.taps import feature_function, tapped_network
from rexdet.zoo import create_model

# Oxford 102 Flowers, train and val together, and the width of ReXNet's and EfficientNet's last layer but one.
IMAGES, DIMENSIONS, CLASSES = 2040, 1280, 102
# Penalties 1e4, 1e3 ... 0.1, counted from the strongest: below, scikit-learn takes minutes to converge.
_CONVERGED_PLACES = (4, 28, 4)
# Weights (D, K) and intercepts (K).
Probe = tuple[Tensor, Tensor]


def run(network: str = "rexnet_1.0", *, rounds: int = 3, quick: bool = False) -> list[dict[str, Any]]:
    """Rows: what, the other's seconds, our seconds, how many times faster ours is, and what else is to be known.

    quick: a small path and few images, to see that it works. Raises UserError where scikit-learn is missing.
    """
    return [
        *solver_rows(rounds, quick),
        *extraction_rows(network, rounds, 64 if quick else 512),
        *(tuning_row(network, rounds, size, 4 if quick else 12) for size in ((64,) if quick else (128, 224))),
    ]


def flowers_sized(images: int, dimensions: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features (N, D) float32 like pooled activations, and labels (N,): not negative, correlated, unequal in size.

    The deviations along their principal axes fall as those of a trained network do: 40 factors have most of it.
    """
    fixed = np.random.default_rng(0)
    sizes = np.arange(1, 513) ** -0.75
    means = fixed.normal(size=(classes, 512))
    mixing = fixed.normal(size=(512, dimensions))
    random = np.random.default_rng(seed + 1)
    labels = np.arange(images) % classes
    factors = (means[labels] + 1.6 * random.normal(size=(images, 512))) * sizes
    x = np.maximum(0.3 * factors @ mixing - 0.3, 0.0) + 0.02 * np.abs(random.normal(size=(images, dimensions)))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)


def solver_rows(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """The path of 45 penalties on features as they are, ours and scikit-learn's, both the strongest first."""
    images, dimensions, classes = (120, 24, 4) if quick else (IMAGES, DIMENSIONS, CLASSES)
    x, y = flowers_sized(images, dimensions, classes, seed=0)
    held, truth = flowers_sized(images, dimensions, classes, seed=1)
    found: dict[str, list[Probe]] = {}
    solved: list[tuple[SoftmaxRegression, list[Solution]]] = []

    def ours() -> None:
        problem = SoftmaxRegression(x, y, classes, scale=1.0)
        solved[:] = [(problem, list(problem.path(PENALTIES)))]

    def theirs() -> None:
        found["scikit-learn"] = _peer_path(x, y)

    seconds = alternate({"scikit-learn": theirs, "ours": ours}, rounds, "45 penalties")
    # A probe is scored on features that were rotated once; weights for features as they are serve the comparison.
    (problem, solutions), *_ = solved
    found["ours"] = [problem.weights(solution) for solution in solutions]
    measured = {who: np.array(_losses_and_shares(probes, x, y, held, truth)) for who, probes in found.items()}
    over = measured["ours"][:, 0] / measured["scikit-learn"][:, 0] - 1.0
    # At its default tolerance scikit-learn's accuracy is that of a probe on its way. Solved to the end, it tells.
    places = range(*_CONVERGED_PLACES)
    ends = [_converged_share(x, y, held, truth, PENALTIES[-1 - place]) for place in places]
    apart = max(abs(end - measured["ours"][place, 1]) for place, end in zip(places, ends, strict=True))
    what = f"path of {len(PENALTIES)} penalties, {images} x {dimensions}, {classes} classes"
    note = (
        f"our loss over theirs: {over.max():+.1e} at most, {over.min():+.1e} at least; accuracy at most "
        f"{100 * apart:.2f} points from scikit-learn's at tol=1e-7, {len(ends)} penalties; "
        f"{torch.get_num_threads()} thread(s)"
    )
    return [_row(what, "scikit-learn", seconds["scikit-learn"], seconds["ours"], note)]


def _peer_path(x: Tensor, y: Tensor) -> list[Probe]:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise UserError("scikit-learn is not installed", fix="pip install scikit-learn") from None
    model = LogisticRegression(max_iter=1000, warm_start=True)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says that it stopped early; the losses show by how much.
        for penalty in reversed(PENALTIES):
            model.C = 1.0 / penalty
            model.fit(x.numpy(), y.numpy())
            found.append((torch.from_numpy(model.coef_.T.copy()), torch.from_numpy(model.intercept_.copy())))
    return found


def _converged_share(x: Tensor, y: Tensor, held: Tensor, truth: Tensor, penalty: float) -> float:
    """Share of the held-out images that scikit-learn classifies right, solved in float64 until little moves."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0 / penalty, tol=1e-7, max_iter=20_000).fit(x.double().numpy(), y.numpy())
    return float(model.score(held.double().numpy(), truth.numpy()))


def _losses_and_shares(
    probes: list[Probe], x: Tensor, y: Tensor, held: Tensor, truth: Tensor
) -> list[tuple[float, float]]:
    """Loss in float64, and share of the held-out images classified right, at each penalty, the strongest first."""
    found = []
    for (weights, intercepts), penalty in zip(probes, reversed(PENALTIES), strict=True):
        weights, intercepts = weights.double(), intercepts.double()
        losses = F.cross_entropy(x.double() @ weights + intercepts, y, reduction="sum")
        loss = float(losses + 0.5 * penalty * weights.square().sum())
        found.append((loss, _share(held.double() @ weights + intercepts, truth)))
    return found


def _share(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def extraction_rows(network: str, rounds: int, count: int) -> list[dict[str, Any]]:
    """Features of pictures on the disk beside the bare forward pass and the bare decoding, one after the other; and the
    same features a second time, from where the first has kept them.
    """
    listing = _pictures(count)
    extractor = Extractor(network)
    size = extractor.framing.crop
    function = feature_function(
        tapped_network(network, None, "penultimate"), size, device=torch.device("cpu"), images=count
    )
    normalise = Normaliser(extractor.pixels)
    ready = torch.stack([frame(file.pixels(), extractor.framing) for file in listing.files])

    def forward() -> None:
        for batch in ready.split(extractor.batch_size):
            function(normalise(batch))

    def decoding() -> None:
        for file in listing.files:
            frame(file.pixels(), extractor.framing)

    # Both are given the same callable: what is measured is all that lies around it.
    extractor._function = lambda images: function  # type: ignore[method-assign]
    seconds = alternate(
        {"forward": forward, "decoding": decoding, "extraction": lambda: extractor.extract(listing)}, rounds, "features"
    )
    bare = seconds["forward"] + seconds["decoding"]
    rate = count / seconds["extraction"]
    what = f"features of {count} pictures, {network}, {size} px"
    note = f"{rate:.0f} images/s; decoding is {100 * seconds['decoding'] / bare:.0f}% of the bare time"
    again = _seconds_from_the_cache(extractor, network, listing)
    return [
        _row(what, "forward + decode", bare, seconds["extraction"], note),
        _row(f"{what}, again", "extraction", seconds["extraction"], again, "the key is computed anew"),
    ]


def _seconds_from_the_cache(extractor: Extractor, network: str, listing: Listing) -> float:
    with TemporaryDirectory() as folder:
        extractor.extract(listing, folder)
        # As another run has them: nothing is known of listing and network yet.
        listing = replace(listing)
        begun = perf_counter()
        Extractor(network).extract(listing, folder)
        return perf_counter() - begun


def _pictures(count: int) -> Listing:
    """JPEG pictures of 256 x 256, in memory: the disk is not what is measured."""
    from io import BytesIO

    from rexdet.transfer.images import ImageFile, decode

    class Encoded(ImageFile):
        def __init__(self, name: str, data: bytes) -> None:
            self.name, self.data = name, data

        @property
        def where(self) -> str:
            return self.name

        def read(self) -> bytes:
            return self.data

        def pixels(self) -> Image.Image:
            return decode(self.data, self.name)

    random = np.random.default_rng(0)
    files = []
    for index in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8))
        stream = BytesIO()
        coarse.resize((340, 256), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        files.append(Encoded(f"{index:04}.jpg", stream.getvalue()))
    labels = torch.zeros(count, dtype=torch.int64)
    return Listing("benchmark", "train", tuple(files), labels, ("all",), tuple(map(str, range(count))))


def tuning_row(network: str, rounds: int, size: int, steps: int) -> dict[str, Any]:
    """Steps of the trainer beside bare forward, backward and optimiser steps on tensors of the same shape."""
    batch, classes = 8, 10
    protocol = Protocol.model_validate(
        {
            "name": "benchmark",
            "image_size": size,
            "steps": steps,
            "batch_size": batch,
            "learning_rate": 1e-3,
            "schedule": {"kind": "cosine"},
            "augmentation": {"flip": True, "pad": 4},
        }
    )
    pixels = np.random.default_rng(0).integers(0, 255, (4 * batch, size, size, 3), dtype=np.uint8)
    files = tuple(ArrayImage(f"{row}", pixels, row) for row in range(len(pixels)))
    labels = torch.arange(len(pixels)) % classes
    names = tuple(map(str, range(classes)))
    images = ImageSet.of(Listing("benchmark", "train", files, labels, names, tuple(map(str, range(len(pixels))))), size)
    tuned, bare = create_model(network, classes), create_model(network, classes)
    step = _bare_steps(bare, protocol, steps, size, classes)
    seconds = alternate(
        {"bare": step, "trainer": lambda: train(tuned, images, protocol, seed=0)}, rounds, f"fine-tuning at {size} px"
    )
    rate = steps * batch / seconds["trainer"]
    return _row(
        f"fine-tuning {network}, {size} px, batch {batch}",
        "forward-backward",
        seconds["bare"],
        seconds["trainer"],
        f"{rate:.1f} images/s",
    )


def _bare_steps(network: nn.Module, protocol: Protocol, steps: int, size: int, classes: int) -> Callable[[], None]:
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    x = torch.randn(protocol.batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(protocol.batch_size) % classes

    def run_steps() -> None:
        optimiser = make_optimiser(protocol, network)
        for _ in range(steps):
            loss = F.cross_entropy(network(x), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return run_steps


def _row(what: str, peer: str, theirs: float, ours: float, note: str = "") -> dict[str, Any]:
    return {
        "what": what,
        "beside": peer,
        "its s": round(theirs, 2),
        "ours s": round(ours, 2) if ours >= 0.1 else round(ours, 4),
        "ratio": round(theirs / ours, 2),
        "note": note,
    }
