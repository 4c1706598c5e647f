"""The plot of a search: which share of its channels each layer keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rexdet.files import atomic_path
from rexdet.optional import import_optional


def plot_keep_ratios(ratios: Mapping[str, float], path: str | Path, *, title: str, uniform: float) -> None:
    """Draw the kept share of every layer, first to last, into a PNG file.

    ratios: layer -> share of the widened layer's channels, 0 to 1. uniform: the share that the baseline has of the
    widened network in every layer (1 / width), drawn as a line. Raises UserError without matplotlib.
    """
    figures = import_optional("matplotlib.figure", "matplotlib")
    font = max(4, min(8, 400 // len(ratios)))
    # Room below the bars for the longest name: a letter is about two thirds as wide as high, 72 points are an inch.
    names_height = max(map(len, ratios)) * font * 0.66 / 72
    figure = figures.Figure(figsize=(min(4 + 0.14 * len(ratios), 16), 3 + names_height), layout="constrained")
    axes = figure.subplots()
    places = range(len(ratios))
    axes.bar(places, list(ratios.values()), color="#4477aa", width=0.8)
    axes.axhline(uniform, color="#bb5566", linewidth=1, linestyle="--", label=f"not searched: {uniform:.2f} everywhere")
    axes.set_xticks(list(places), list(ratios), rotation=90, fontsize=font)
    axes.set_xlim(-0.6, len(ratios) - 0.4)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of channels kept")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper right", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
