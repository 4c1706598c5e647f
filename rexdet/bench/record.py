"""What a benchmark leaves for the tables: a record with the measured latencies of a network and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rexdet.runs import Network, Run, RunRecord


def write_latencies(folder: Path, network: str, rows: Sequence[Mapping[str, Any]], command: list[str]) -> int:
    """Write the record of a run of `backbone`; returns how many latencies it holds.

    rows: as `rexdet.bench.backbone.run` and `rexdet.bench.latency.run` give them; those of inference ("eager, float32,
    batch 1") are kept, as groups "latency eager float32 batch 1" with `ms` (ours) and, where timm's network was timed
    beside it, `peer_ms`.
    Raises UserError where the folder holds a run or cannot be written to.
    """
    metrics: dict[str, dict[str, float | None]] = {}
    for row in rows:
        words = str(row["what"]).split(", ")
        if len(words) == 3 and words[2].startswith("batch ") and "ours ms" in row and words[0] != "training step":
            group = metrics.setdefault(" ".join(("latency", *words)), {})
            group["ms"] = float(row["ours ms"])
            if "timm ms" in row:
                group["peer_ms"] = float(row["timm ms"])
    record = RunRecord(kind="benchmark", name=f"latency-{network}", network=Network(name=network), command=command)
    with Run.start(folder, record) as run:
        run.finish(metrics=metrics)
    return len(metrics)
