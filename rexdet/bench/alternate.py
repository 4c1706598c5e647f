"""Timing several functions in turn, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm


def alternate(functions: Mapping[str, Callable[[], object]], rounds: int, what: str = "timing") -> dict[str, float]:
    """Median seconds of each function over `rounds` rounds, in each of which every function runs once.

    One round before the counted ones warms up. The order turns from round to round, so that nobody always comes first.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_number in tqdm(range(rounds + 1), desc=what, unit="round", leave=False):
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            begun = time.perf_counter()
            functions[name]()
            taken = time.perf_counter() - begun
            if round_number:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}
