"""A study as people run it: three networks, two detectors, six data sets under three protocols, two seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rexdet.report.records.reading import Found, Reading
from rexdet.report.tables.summary import Summary, summarise_runs
from rexdet.runs import RunRecord

NAMES = {"resnet50": "1", "resnext50_32x4d": "2", "rexnet_1.0": "3"}
PROCESSOR = "Intel(R) Core(TM) i7-9700K CPU @ 3.60GHz"


@pytest.fixture(scope="session")
def study_runs(
    detection: Callable[..., RunRecord], transfer: Callable[..., RunRecord], latency_run: Callable[..., RunRecord]
) -> list[Found]:
    """The records of the study."""
    records = []
    for place, (name, digit) in enumerate(NAMES.items()):
        records.append(latency_run(name, {"openvino float32 batch 1": 17.48 + place}, device=PROCESSOR))
        for seed in (0, 1):
            for sha, less in ((digit * 64, 0.0), (None, 0.07)):
                number = 0.3775 + 0.01 * place - less + 0.0013 * seed
                records.append(detection(number, seed, sha, network=name))
                for dataset in ("aircraft", "cars", "cifar10", "dtd", "flowers102", "pets"):
                    for protocol in ("fine_tune", "linear_probe") if sha else ("from_scratch",):
                        numbers = {"dataset": dataset, "protocol": protocol, "network": name}
                        records.append(transfer(0.2 + number, seed, sha, **numbers))
            records.append(detection(0.33 + 0.01 * place + 0.001 * seed, seed, digit * 64, network=name, freeze_at=5))
    return [Found(record, f"runs/{place}/record.json") for place, record in enumerate(records)]


@pytest.fixture(scope="session")
def study(study_runs: list[Found]) -> Summary:
    """Its tables, without costs."""
    return summarise_runs(Reading(tuple(study_runs)), with_costs=False)
