"""Random states and the position in the data: what a checkpoint needs so that a run goes on as if it had never stopped.

Everything a checkpoint takes from here is tensors, numbers, strings, lists and dicts, so that
`torch.load(weights_only=True)` opens it. torch and NumPy are loaded when they are used.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rexdet.errors import UserError

if TYPE_CHECKING:
    import numpy as np

# Separates the streams of numbers that are drawn from one seed, so that none repeats another.
_ORDER, _SAMPLE, _PROCESS = 1, 2, 3
# What the order of the images hangs on, as an error says it.
_IN_WORDS = {
    "length": "number of training images",
    "seed": "seed",
    "shuffle": "shuffling",
    "grouped": "grouping of images by shape",
    "batch_size": "batch",
}


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

    Call it last, just before the first step: making a network or the iterator of a data loader draws from torch's
    generator. Returns what could not be restored, a line each: states of CUDA devices that are not here.
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


class ResumableSampler:
    """An endless order of (epoch, index) pairs for training, which any number of processes walk together.

    The order of an epoch is a function of the seed and the epoch. The samples of all epochs form one row; step s of the
    run takes positions s * batch_size to (s + 1) * batch_size of it, whatever the number of processes: process r takes
    every world_size-th of them, from r on. So at equal `batch_size` N processes see together what one would see.
    Batches reach over the end of an epoch: no image is left out or taken twice.

    For `torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=batch_size // world_size)`, whose data set
    takes the pair as its index. The position counts samples that were trained on: workers read ahead, and what they
    have read but nobody has used does not count. So the training loop tells: `sampler.advance()` after each step.

    length: images of the data set.
    batch_size: images a step over all processes (with gradient accumulation: a forward pass), divisible by world_size.
    groups: a small integer an image, for example whether it is tall; then each batch holds images of one group as far
        as they go round (the last of an epoch share mixed batches), so that less is padded. It changes the order
        only, and the order stays a function of seed, epoch and batch size.

    Raises UserError for an empty data set or a batch that cannot be divided.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
        groups: Sequence[int] | None = None,
    ) -> None:
        if length < 1:
            raise UserError("there is no image to train on")
        if batch_size < 1 or batch_size % world_size:
            raise UserError(
                f"a batch of {batch_size} cannot be divided among {world_size} processes",
                fix=f"choose a multiple of {world_size}",
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes")
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.batch_size = batch_size
        self.groups = groups
        self.position = 0
        if groups is not None and len(groups) != length:
            raise ValueError(f"{len(groups)} groups for {length} images")

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch in the order of training, int64 (length,)."""
        import numpy as np

        if self.shuffle:
            # Sorting raw 64-bit words: unlike Generator.permutation, NumPy promises these bits for all its versions.
            bits = np.random.PCG64(np.random.SeedSequence([self.seed, _ORDER, epoch]))
            order = np.argsort(bits.random_raw(self.length), kind="stable")
        else:
            order = np.arange(self.length, dtype=np.int64)
        if self.groups is None:
            return order
        # The first samples fill up the batch that the epoch before has begun.
        begun = -epoch * self.length % self.batch_size
        rest = order[begun:]
        return np.concatenate([order[:begun], rest[_grouped(np.asarray(self.groups)[rest], self.batch_size)]])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """This process's (epoch, index) pairs from the position on, without end. Does not move the position."""
        position = self.position + self.rank
        epoch = -1
        while True:
            if position // self.length != epoch:
                epoch = position // self.length
                order = self.order(epoch)
            yield epoch, int(order[position % self.length])
            position += self.world_size

    def advance(self, steps: int = 1) -> None:
        """Count `steps` batches as trained on. Call it in every process after each step."""
        self.position += steps * self.batch_size

    @property
    def epoch(self) -> float:
        """Epochs trained on so far."""
        return self.position / self.length

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the samples trained on, over all processes, and what the order hangs on."""
        return {"position": self.position, **self._order_hangs_on()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. The number of processes may be another one, and without groups the batch too.

        Raises UserError where the order would be another one: data of another length, another seed, and so on.
        """
        hangs_on = self._order_hangs_on()
        for name in (*hangs_on, "position"):
            if name not in state:
                raise UserError(f"the sampler's state lacks {name!r}", fix="resume from a checkpoint of this tool")
        for name, now in hangs_on.items():
            if state[name] != now:
                raise UserError(
                    f"the {_IN_WORDS[name]} was {state[name]} when the checkpoint was written and is {now} now",
                    fix="--resume goes on with the same run; start a new one with --weights",
                )
        self.position = int(state["position"])

    def _order_hangs_on(self) -> dict[str, Any]:
        state: dict[str, Any] = {"length": self.length, "seed": self.seed, "shuffle": self.shuffle}
        grouped = self.groups is not None
        return {**state, "grouped": grouped, "batch_size": self.batch_size if grouped else 0}


def _grouped(groups: np.ndarray, batch_size: int) -> np.ndarray:
    """Positions of `groups` in a new order: whole batches of one group as they fill up, then what is left over."""
    import numpy as np

    whole, left = [], []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        end = len(members) // batch_size * batch_size
        whole.append(members[:end].reshape(-1, batch_size))
        left.append(members[end:])
    if not whole:
        return np.arange(0)
    batches = np.concatenate(whole)
    batches = batches[np.argsort(batches[:, -1], kind="stable")]
    return np.concatenate([batches.ravel(), np.sort(np.concatenate(left))])


def _words(*entropy: int) -> np.ndarray:
    """Ten random 32-bit words, a function of `entropy` (integers of 0 or more) that NumPy promises to keep."""
    import numpy as np

    return np.random.SeedSequence(list(entropy)).generate_state(10)


def _integer(words: Any) -> int:
    return int.from_bytes(words.astype("<u4").tobytes(), "little")
