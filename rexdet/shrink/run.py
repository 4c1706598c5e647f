"""A search as a run: a folder with the genome, the kept shares and their plot, and the record."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rexdet.errors import UserError
from rexdet.files import write_bytes_atomically, write_json_atomically
from rexdet.runs import Data, DataSplit, Network, Recipe, Run, RunRecord, WeightsFile, check_folder
from rexdet.shrink.data import BATCH_SIZE, folder_batches
from rexdet.shrink.plot import plot_keep_ratios
from rexdet.shrink.search import MINI_BATCHES, Batch, SearchResult, Settings, check_request, search
from rexdet.shrink.widen import default_input_size
from rexdet.zoo.genome import write_genome

GENOME, RATIOS, PLOT, WEIGHTS = "genome.yaml", "keep_ratios.json", "keep_ratios.png", "inherited.safetensors"


@dataclass
class SearchJob:
    """What `tools/search_lwdna.py` was asked for. Paths are kept as typed; see `search` for the rest.

    data: a folder of pictures by class, "" for random data. save_weights: keep the inherited weights too.
    """

    network: str
    ratio: float
    output: str
    width: float = 2.0
    criterion: str = "gradient"
    data: str = ""
    seed: int = 0
    num_classes: int | None = None
    input_size: int | None = None
    settings: Settings = field(default_factory=Settings)
    save_weights: bool = False
    command: list[str] = field(default_factory=list)


def run_search(job: SearchJob) -> SearchResult:
    """Search, and write genome.yaml, keep_ratios.json, keep_ratios.png and record.json into the job's output folder.

    Raises UserError as `search` does, for data that cannot be read, and for a folder that holds results already.
    """
    if not job.output:
        raise UserError("--output is empty", fix="name a folder")
    check_folder(job.output)
    size = default_input_size(job.network) if job.input_size is None else job.input_size
    check_request(job.settings, job.criterion, job.ratio, size, job.seed)
    batches: list[Batch] | None = None
    if job.data:
        batches = list(islice(folder_batches(job.data, size, job.seed), MINI_BATCHES))
    record = RunRecord(
        kind="search",
        name=Path(job.output).name,
        command=job.command,
        seed=job.seed,
        network=Network(name=job.network),
        data=Data(train=_split(job, batches)),
        recipe=_recipe(job.settings),
    )
    with Run.start(job.output, record) as run:
        settings = job.settings
        result = search(
            job.network,
            ratio=job.ratio,
            width=job.width,
            criterion=job.criterion,
            data=batches,
            seed=job.seed,
            num_classes=job.num_classes,
            input_size=job.input_size,
            progress=True,
            **vars(settings),
        )
        _write(run, job, result)
    return result


def _split(job: SearchJob, batches: list[Batch] | None) -> DataSplit:
    if batches is None:
        return DataSplit(path="random", images=MINI_BATCHES * BATCH_SIZE)
    content = hashlib.sha256()
    for images, labels in batches:
        content.update(images.numpy().tobytes())
        content.update(labels.numpy().tobytes())
    return DataSplit(
        images_path=job.data,
        fingerprint=content.hexdigest(),
        images=sum(len(labels) for _, labels in batches),
        limited=True,
    )


def _recipe(settings: Settings) -> Recipe:
    return Recipe(
        effective_batch=BATCH_SIZE,
        optimizer=f"SGD without momentum, weight decay {settings.weight_decay:g}",
        base_lr=settings.learning_rate,
        iterations=MINI_BATCHES,
        differs_from_recipe=[
            f"norms see {settings.micro_batch} images at once, not the whole mini-batch",
            "no momentum: it would change the second step alone, behind the gradient that is looked at",
        ],
    )


def _write(run: Run, job: SearchJob, result: SearchResult) -> None:
    if job.data:
        provenance = {
            **result.genome.provenance,
            "data": f"{MINI_BATCHES * BATCH_SIZE} pictures of {Path(job.data).name}",
        }
        genome = result.genome.model_copy(update={"provenance": provenance})
    else:
        genome = result.genome
    write_genome(run.folder / GENOME, genome)
    write_json_atomically(run.folder / RATIOS, result.keep_ratios)
    files = {"genome": GENOME, "keep_ratios": RATIOS}
    title = f"{job.network}: {result.macs / 1e6:,.0f} million MACs of {result.widened_macs / 1e6:,.0f}, {job.criterion}"
    try:
        plot_keep_ratios(result.keep_ratios, run.folder / PLOT, title=title, uniform=min(1 / job.width, 1.0))
        files["plot"] = PLOT
    except UserError as error:
        run.event("no_plot", str(error))
    weights = None
    if job.save_weights:
        from safetensors.torch import save

        state = {key: tensor.contiguous() for key, tensor in result.model.state_dict().items()}
        write_bytes_atomically(run.folder / WEIGHTS, save(state))
        files["weights"] = WEIGHTS
        weights = WeightsFile(file=WEIGHTS, holds="raw", iteration=MINI_BATCHES)
    run.finish(metrics=_metrics(result), files=files, final_weights=weights)


def _metrics(result: SearchResult) -> dict[str, dict[str, float | None]]:
    return {
        "cost": {
            "macs": result.macs,
            "baseline_macs": result.baseline_macs,
            "widened_macs": result.widened_macs,
            "parameters": result.parameters,
            "share_of_widened": result.macs / result.widened_macs,
            "share_of_baseline": result.macs / result.baseline_macs,
        },
        "search": {
            "threshold": _finite(result.threshold),
            **{f"loss_{number}": loss for number, loss in enumerate(result.losses, start=1)},
            **{f"rebuilt_to_masked_{kind}": _finite(value) for kind, value in result.difference.items()},
            **{f"seconds_{part.replace(' ', '_')}": value for part, value in result.seconds.items()},
        },
        "keep_ratio": dict(result.keep_ratios),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
