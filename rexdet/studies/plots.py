"""The plots of a study: accuracy of every run, losses while training, and the widths that a search found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rexdet.files import atomic_path
from rexdet.nets.widths import take_widths
from rexdet.optional import import_optional
from rexdet.studies import lwdna
from rexdet.zoo.registry import skeleton

if TYPE_CHECKING:
    from rexdet.studies.outcome import Outcome

# Told apart by people who see colours differently, too (Paul Tol's bright scheme).
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
ACCURACY_FILE, LOSS_FILE, WIDTHS_FILE = "accuracy.png", "loss.png", "widths.png"


def plot(outcome: Outcome, folder: Path) -> list[str]:
    """Draw the plots as PNG files into a folder; returns their names. Raises UserError without matplotlib."""
    drawn = {ACCURACY_FILE: _accuracy(outcome), LOSS_FILE: _losses(outcome)}
    if outcome.study == lwdna.NAME:
        drawn[WIDTHS_FILE] = _widths(outcome)
    for name, figure in drawn.items():
        with atomic_path(folder / name) as temporary:
            figure.savefig(temporary, format="png", dpi=110)
    return list(drawn)


def _figure(width: float, height: float) -> Any:
    figures = import_optional("matplotlib.figure", "matplotlib")
    return figures.Figure(figsize=(width, height), layout="constrained")


def _colours(outcome: Outcome) -> Mapping[str, str]:
    settings = dict.fromkeys(row.setting for row in outcome.rows)
    return {setting: COLOURS[index % len(COLOURS)] for index, setting in enumerate(settings)}


def _accuracy(outcome: Outcome) -> Any:
    """Every run a dot; beside it the mean and its 95% interval."""
    figure = _figure(2.5 + 1.1 * len(outcome.rows), 4)
    axes = figure.subplots()
    colours = _colours(outcome)
    for place, row in enumerate(outcome.rows):
        values = [
            100 * run.number("test", "top1")
            for run in outcome.runs
            if (run.network, run.setting) == (row.network, row.setting)
        ]
        axes.plot([place - 0.12] * len(values), values, "o", color=colours[row.setting], alpha=0.6, markersize=5)
        half = row.top1.half_width
        axes.errorbar(
            [place + 0.12],
            [100 * row.top1.mean],
            yerr=None if half is None else [100 * half],
            fmt="s",
            color=colours[row.setting],
            capsize=4,
            markersize=5,
        )
    is_single = len({row.network for row in outcome.rows}) == 1
    labels = [row.setting if is_single else f"{row.setting}\n{row.network}" for row in outcome.rows]
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylabel("test top-1 (%)")
    network = f"{outcome.rows[0].network}: " if is_single else ""
    axes.set_title(f"{network}runs, mean and 95% interval", fontsize=10)
    axes.grid(axis="y", alpha=0.3)
    return figure


def _losses(outcome: Outcome) -> Any:
    """The training loss of each epoch, mean over the runs of a setting; a panel a network."""
    networks = list(dict.fromkeys(row.network for row in outcome.rows))
    figure = _figure(1 + 4.2 * len(networks), 4)
    panels = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    colours = _colours(outcome)
    for axes, network in zip(panels, networks, strict=True):
        for row in outcome.rows:
            curves = [
                [(entry.iteration, entry.metrics["train"]["loss"]) for entry in run.record.evaluations]
                for run in outcome.runs
                if (run.network, run.setting) == (network, row.setting) and row.network == network
            ]
            points = list(zip(*curves, strict=False))
            if points:
                steps = [point[0][0] for point in points]
                means = [sum(loss or 0.0 for _, loss in point) / len(point) for point in points]
                axes.plot(steps, means, color=colours[row.setting], label=row.setting)
        axes.set_title(network, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    panels[0].set_ylabel("training loss, mean of the epoch and of the runs")
    return figure


def _widths(outcome: Outcome) -> Any:
    """The channels that a search gave each layer, relative to the network's own: mean and range over the runs."""
    networks = list(dict.fromkeys(row.network for row in outcome.rows))
    figure = _figure(9, 3.6 * len(networks))
    colours = _colours(outcome)
    for axes, network in zip(figure.subplots(len(networks), 1, squeeze=False)[:, 0], networks, strict=True):
        own = _own_widths(network)
        criteria = [setting for setting in lwdna.SETTINGS[1:] if any(row.setting == setting for row in outcome.rows)]
        for place, criterion in enumerate(criteria):
            found = [
                take_widths(own, _channels(run.record.network.overrides))
                for run in outcome.runs
                if (run.network, run.setting) == (network, criterion) and run.record.network
            ]
            if not found:
                continue
            ratios = [[widths[layer] / own[layer] for widths in found] for layer in own]
            means = [sum(values) / len(values) for values in ratios]
            below = [mean - min(values) for mean, values in zip(means, ratios, strict=True)]
            above = [max(values) - mean for mean, values in zip(means, ratios, strict=True)]
            at = [index + 0.2 * (place - (len(criteria) - 1) / 2) for index in range(len(own))]
            axes.errorbar(at, means, yerr=[below, above], fmt="o", color=colours[criterion], label=criterion, capsize=2)
        axes.axhline(1.0, color="black", linewidth=0.8, linestyle="--")
        axes.set_xticks(range(len(own)), list(own), rotation=60, ha="right", fontsize=8)
        axes.set_ylabel("channels, of the baseline's")
        axes.set_title(f"{network}: widths found, mean and range over the runs", fontsize=10)
        if axes.containers:
            axes.legend(fontsize=8)
        axes.grid(axis="y", alpha=0.3)
    return figure


def _own_widths(network: str) -> dict[str, int]:
    channels = skeleton(network).channels
    return dict(channels)  # type: ignore[arg-type]


def _channels(overrides: Mapping[str, Any]) -> dict[str, int]:
    return {layer: int(width) for layer, width in overrides.get("channels", {}).items()}
