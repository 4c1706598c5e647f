"""Random states and the position in the data: what a checkpoint needs so that a run goes on as if it had never stopped.

Everything a checkpoint takes from here is tensors, numbers, strings, lists and dicts, so that
`torch.load(weights_only=True)` opens it. torch and NumPy are loaded when they are used.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rexdet.errors import UserError
from rexdet.runs.sampler import ResumableSampler

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ResumableSampler",
    "capture_random_state",
    "restore_random_state",
    "sample_generator",
    "sample_randomness",
    "seed_everything",
]

# Separates the streams of numbers that are drawn from one seed, so that none repeats another (1: the sampler's order).
_SAMPLE, _PROCESS = 2, 3


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and all CUDA devices).

    seed: 0 or more. rank: processes that train together get streams of their own; rank 0's depends on the seed alone.
    """
    import numpy as np
    import torch

    words = _words(seed, _PROCESS, rank)
    random.seed(_integer(words[0:4]))
    np.random.seed(words[4:8])  # noqa: NPY002 (the global generator is what other libraries draw from)
    torch.manual_seed(_integer(words[8:10]))


def capture_random_state() -> dict[str, Any]:
    """The global generators of Python, NumPy, torch CPU and (where CUDA is in use) each CUDA device.

    Returns a dict of CPU tensors (integers, float64), numbers and strings, whose shapes never change.
    """
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    algorithm, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    if algorithm != "MT19937":
        raise RuntimeError(f"NumPy's global generator is {algorithm}, not MT19937: its state cannot be kept")
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return {
        "python": {
            "version": version,
            "words": torch.tensor(words, dtype=torch.int64),
            "gauss": torch.tensor([gauss is not None, gauss or 0.0], dtype=torch.float64),
        },
        "numpy": {
            "algorithm": "MT19937",
            "words": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "gauss": torch.tensor([bool(has_gauss), float(cached)], dtype=torch.float64),
        },
        "torch": torch.get_rng_state(),
        "cuda": list(cuda),
    }


def restore_random_state(state: dict[str, Any]) -> list[str]:
    """Put the global generators where `capture_random_state` found them.

    Returns what could not be restored, a line each: states of CUDA devices that are not here. Empty: all is as it was.
    Raises UserError for a state that lacks a generator.
    """
    import numpy as np
    import torch

    missing = [name for name in ("python", "numpy", "torch", "cuda") if name not in state]
    if missing:
        raise UserError(
            f"the random state lacks {', '.join(missing)} (it holds {', '.join(map(str, state)) or 'nothing'})",
            fix="resume from a checkpoint that this tool wrote",
        )
    python, numpy_state = state["python"], state["numpy"]
    has_gauss, gauss = python["gauss"].tolist()
    random.setstate((python["version"], tuple(python["words"].tolist()), gauss if has_gauss else None))
    has_gauss, gauss = numpy_state["gauss"].tolist()
    keys = numpy_state["words"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, numpy_state["position"], int(has_gauss), gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index, saved in enumerate(state["cuda"][:devices]):
        torch.cuda.set_rng_state(saved.cpu(), index)
    lost = len(state["cuda"]) - devices
    return [f"random state of {lost} CUDA device(s) not restored: {devices} here"] if lost > 0 else []


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """A generator for the randomness of one sample: a function of the run's seed, the epoch and the image's index."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _SAMPLE, epoch, index])))


@contextmanager
def sample_randomness(seed: int, epoch: int, index: int) -> Iterator[np.random.Generator]:
    """Within the block the global generators of Python, NumPy and torch (CPU) are seeded for this sample.

    So augmentations that draw from any of them give the same result in every worker, in the main process and after a
    resume, and another one in every epoch. Afterwards the generators stand where they stood before. Yields a NumPy
    generator for code that takes one. Thread-unsafe, as the global generators are.
    """
    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    words = _words(seed, _SAMPLE, epoch, index)
    random.seed(_integer(words[0:4]))
    np.random.seed(words[4:8])  # noqa: NPY002
    # Only the CPU generator: torch.manual_seed would also reseed CUDA's, which the training step draws from.
    torch.default_generator.manual_seed(_integer(words[8:10]))
    try:
        yield sample_generator(seed, epoch, index)
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _words(*entropy: int) -> np.ndarray:
    """Ten random 32-bit words, a function of `entropy` (integers of 0 or more) that NumPy promises to keep."""
    import numpy as np

    return np.random.SeedSequence(list(entropy)).generate_state(10)


def _integer(words: Any) -> int:
    return int.from_bytes(words.astype("<u4").tobytes(), "little")
