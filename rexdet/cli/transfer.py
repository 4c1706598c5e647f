"""One network on one data set: fine-tuning, a probe, or training from scratch, and its table."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rexdet.errors import UserError

if TYPE_CHECKING:
    from rexdet.transfer.experiment import Finished, Settings
    from rexdet.transfer.metrics import Metric
    from rexdet.transfer.opening import Dataset
    from rexdet.transfer.protocols import AnyProtocol
    from rexdet.transfer.start import Start

HELP = "accuracy of a network on another data set: fine-tuning, probes, from scratch"
PROTOCOL = "fine_tune_quick"
_LARGEST_SEED = 2**32 - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `transfer/run.py`."""
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", required=True, metavar="NAME", help="embedded, cifar10, flowers102, folder, ...")
    data.add_argument("--data-root", default="", metavar="D", help="folder that holds the set (default: the cache)")
    data.add_argument("--download", action="store_true", help="fetch what is not there, also with --data-root")
    data.add_argument("--kfold", type=int, default=None, metavar="K", help="folder: test on each of K folds in turn")
    network = parser.add_argument_group("network and weights")
    network.add_argument("--network", default="", metavar="NAME", help="such as rexnet_1.3@nav_in1k or resnet50")
    network.add_argument("--weights", default="", metavar="FILE|NAME@TAG", help="for a NAME without a @tag")
    network.add_argument("--pixels", default="", metavar="P", help="of the weights: imagenet, half, FILE")
    network.add_argument("--from-scratch", action="store_true", help="begin with random weights")
    recipe = parser.add_argument_group("recipe (default: the protocol's)")
    recipe.add_argument("--protocol", default="", metavar="P", help=f"name or FILE.yaml (default: {PROTOCOL})")
    recipe.add_argument("--tap", default="", metavar="F", help="probes: penultimate, res2, res3, res4 or res5")
    recipe.add_argument("--image-size", type=int, metavar="N", help="side of the input in pixels")
    length = recipe.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, metavar="N")
    length.add_argument("--steps", type=int, metavar="N")
    recipe.add_argument("--batch-size", type=int, metavar="N", help="over all processes")
    recipe.add_argument("--lr", type=float, metavar="R", help="learning rate; no search over it")
    recipe.add_argument("--weight-decay", type=float, metavar="R", help="no search over it")
    recipe.add_argument("--label-smoothing", type=float, metavar="S")
    recipe.add_argument("--ema", type=float, metavar="DECAY", help="average weights, and evaluate those")
    recipe.add_argument("--drop-path", type=float, metavar="RATE")
    recipe.add_argument("--mixup", type=float, metavar="ALPHA")
    recipe.add_argument("--freeze", metavar="WHAT", help="none, norms, 1 to 5 (stages), backbone")
    recipe.add_argument("--amp", choices=("bf16",), help="mixed precision")
    recipe.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=None)
    recipe.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None)
    run = parser.add_argument_group("run (torchrun works too)")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="first seed (default: 0)")
    run.add_argument(
        "--seeds", type=int, metavar="N", help="repeat the final run with N seeds (default: 1; few_shot: 3)"
    )
    run.add_argument("--output", default="", metavar="D", help="run folder (default: output/transfer/...)")
    run.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    run.add_argument("--device", default="", metavar="D", help="cpu or cuda (default: cuda where there is one)")
    run.add_argument("--workers", type=int, metavar="N", help="threads that make batches ahead")
    run.add_argument("--dry-run", action="store_true", help="measure a few steps, print what the run would cost")
    run.add_argument("--tensorboard", action="store_true", help="keep curves in the run folder")
    run.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Open, train or probe, and print the table."""
    import torch

    from rexdet.processes import is_main, process_group
    from rexdet.transfer.start import choose_start

    protocol = _protocol(arguments)
    if arguments.seeds is None:
        arguments.seeds = getattr(protocol, "draws", 1)
    _check_numbers(arguments)
    start = choose_start(
        arguments.network, arguments.weights, arguments.pixels, protocol, from_scratch=arguments.from_scratch
    )
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise UserError(f"--device {device}", fix="give cpu or cuda")
    with process_group(device) as own:
        if arguments.dry_run:
            return _dry_run(arguments, start, protocol, str(own))
        cells = []
        for fold in range(arguments.kfold) if arguments.kfold is not None else [None]:
            dataset = _dataset(arguments, fold)
            settings = _settings(arguments, start.network, protocol, own, fold)
            if not arguments.json:
                settings.say(f"{dataset.described()}\n{start.title}; protocol {protocol.name}; {settings.output}")
            cells.append((dataset, _finish(dataset, start, protocol, settings)))
        if is_main():
            _print(cells, start, arguments)
    return 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    if arguments.seeds < 1 or not 0 <= arguments.seed <= _LARGEST_SEED - arguments.seeds:
        raise UserError(
            f"--seed {arguments.seed} --seeds {arguments.seeds}",
            fix=f"give a seed from 0 to {_LARGEST_SEED:,}, and 1 run or more",
        )
    if arguments.kfold is not None and arguments.kfold < 2:
        raise UserError(f"--kfold {arguments.kfold}", fix="give 2 folds or more")
    if arguments.workers is not None and arguments.workers < 0:
        raise UserError(f"--workers {arguments.workers}", fix="give 0 or more")
    if arguments.dataset == "embedded" and arguments.data_root:
        raise UserError(f"--data-root {arguments.data_root}", fix="leave it out: the embedded set is painted, not read")


def _protocol(arguments: argparse.Namespace) -> AnyProtocol:
    from rexdet.transfer.protocols import Protocol, read_any_protocol

    is_embedded = arguments.dataset == "embedded" and not arguments.network and not arguments.weights
    protocol = read_any_protocol(arguments.protocol or ("embedded" if is_embedded else PROTOCOL))
    names = ("image_size", "epochs", "steps", "batch_size", "label_smoothing", "ema", "drop_path", "freeze", "amp")
    changes: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (*names, "channels_last", "compile", "weight_decay")
        if getattr(arguments, name) is not None
    }
    if arguments.lr is not None:
        changes["learning_rate"] = arguments.lr
    if arguments.tap:
        changes["tap"] = arguments.tap
    if isinstance(protocol, Protocol):
        grid = protocol.grid
        if grid is not None and "learning_rate" in changes:
            # The rate is given: what is left to search is the decay, if the grid has any.
            grid = grid.model_copy(update={"learning_rate": [changes["learning_rate"]]})
        if grid is not None and "weight_decay" in changes:
            grid = grid.model_copy(update={"weight_decay": [], "over_learning_rate": False})
        if grid is not None and len(grid.learning_rate) * max(1, len(grid.weight_decay)) == 1:
            changes.setdefault("learning_rate", grid.learning_rate[0])
            grid = None
        changes["grid"] = None if grid is None else grid.model_dump()
        if arguments.mixup is not None:
            changes["augmentation"] = {**protocol.augmentation.model_dump(), "mixup": arguments.mixup}
    elif arguments.mixup is not None:
        changes["mixup"] = arguments.mixup
    return protocol.changed(**changes)


def _dataset(arguments: argparse.Namespace, fold: int | None) -> Dataset:
    from rexdet.transfer.datasets import open_dataset

    return open_dataset(
        arguments.dataset,
        arguments.data_root or None,
        kfold=arguments.kfold,
        fold=fold or 0,
        download=True if arguments.download else None,
        progress=not arguments.json,
    )


def _settings(
    arguments: argparse.Namespace, network: str, protocol: AnyProtocol, device: Any, fold: int | None
) -> Settings:
    from rexdet.processes import is_main
    from rexdet.runs.matrix import folder_name
    from rexdet.transfer.experiment import Settings, check_output

    default = Path("output") / "transfer" / folder_name(arguments.dataset, network, protocol.name)
    output = Path(arguments.output) if arguments.output else default
    workers = arguments.workers
    if workers is None:
        # On the CPU, threads that read ahead take from those that compute.
        workers = 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
    settings = Settings(
        output=output if fold is None else output / f"fold{fold}",
        seed=arguments.seed,
        seeds=arguments.seeds,
        resume=arguments.resume,
        device=str(device),
        workers=workers,
        watch=arguments.tensorboard,
        progress=not arguments.json and is_main(),
        command=["transfer/run.py", *arguments.command],
        say=_say if not arguments.json else _nothing,
    )
    check_output(settings)
    return settings


def _dry_run(arguments: argparse.Namespace, start: Start, protocol: AnyProtocol, device: str) -> int:
    from dataclasses import asdict

    from rexdet.transfer.cost import measure_cost

    folds = arguments.kfold or 1
    cost = measure_cost(_dataset(arguments, 0), start, protocol, seeds=arguments.seeds, device=device).times(folds)
    print(json.dumps(asdict(cost)) if arguments.json else cost)
    return 0


def _finish(dataset: Dataset, start: Start, protocol: AnyProtocol, settings: Settings) -> Finished:
    from rexdet.transfer.experiment import fine_tune
    from rexdet.transfer.protocols import Protocol

    if isinstance(protocol, Protocol):
        return fine_tune(dataset, start, protocol, settings)
    from rexdet.transfer.probing import probe

    return probe(dataset, start, protocol, settings)


def _print(done: list[tuple[Dataset, Finished]], start: Start, arguments: argparse.Namespace) -> None:
    from rexdet.files import write_json_atomically, write_text_atomically
    from rexdet.report.tables import transfer as report

    cells = [cell for dataset, finished in done for cell in _cells(dataset, finished, start)]
    if len(done) > 1:
        cells = _over_folds(cells, len(done))
    text = report.table(cells)
    root = Path(done[0][1].output)
    folder = root if len(done) == 1 else root.parent
    write_text_atomically(folder / "table.md", text + "\n")
    write_json_atomically(folder / "table.json", report.as_json(cells))
    if arguments.json:
        print(json.dumps(report.as_json(cells), indent=2))
        return
    print(f"\n{text}\n\nrecords in {folder}", flush=True)


def _cells(dataset: Dataset, finished: Finished, start: Start) -> list[Any]:
    from rexdet.report.tables.transfer import Cell, in_both_metrics

    other: Metric = "top1" if finished.metric == "mean_per_class" else "mean_per_class"
    weights = f"{start.checkpoint.source} {start.checkpoint.origin_sha256[:12]}" if start.checkpoint else ""
    cells = [
        Cell(
            dataset=dataset.name,
            network=start.network,
            protocol=finished.protocol,
            metric=finished.metric,
            scores=tuple(scores),
            weights=weights,
            images=len(dataset.train_and_val()),
            head=head,
            repeated=finished.repeated,
            fixed=finished.fixed,
        )
        for head, scores in finished.columns(finished.metric)
    ]
    scores = [others for _, others in finished.columns(other)]
    return [found for cell, others in zip(cells, scores, strict=True) for found in in_both_metrics(cell, others)]


def _over_folds(cells: list[Any], folds: int) -> list[Any]:
    """One cell a column, with the mean score of each fold."""
    from dataclasses import replace

    columns: dict[tuple[str, str], list[Any]] = {}
    for cell in cells:
        columns.setdefault((cell.head, cell.metric), []).append(cell)
    return [
        replace(
            group[0],
            scores=tuple(cell.summary.mean for cell in group),
            repeated=f"everything, on each of {folds} folds",
            fixed="the folds; their training images overlap, so the interval is narrower than it should be.",
        )
        for group in columns.values()
    ]


def _say(line: str) -> None:
    from rexdet.processes import is_main

    if is_main():
        print(line, flush=True)


def _nothing(line: str) -> None:
    """For --json, whose reader wants nothing else on standard output."""
