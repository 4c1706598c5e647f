"""One run: its record tells everything, the test split is opened after the last step only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from rexdet.errors import UserError
from rexdet.runs import Network, read_record
from rexdet.transfer.finetune import STATE_NAME, train
from rexdet.transfer.images import ImageSet
from rexdet.transfer.job import Job, run_job
from rexdet.transfer.protocols import Protocol


@pytest.fixture
def job(
    make_network: Callable[..., nn.Module], train_set: ImageSet, test_set: ImageSet, protocol: Protocol, tmp_path: Path
) -> Job:
    return Job(
        name="tiny",
        folder=tmp_path / "run",
        network=Network(name="tiny"),
        build=make_network,
        protocol=protocol,
        train=train_set,
        test=lambda: test_set,
        seed=2,
        notes={"search": {"macs": 3.0}},
    )


def test_the_record_tells_everything(job: Job) -> None:
    run_job(job)
    record = read_record(job.folder)
    assert (record.kind, record.status, record.seed) == ("transfer", "done", 2)
    assert record.metrics["test"]["top1"] is not None
    assert record.metrics["test"]["top1"] > 0.5
    assert record.metrics["search"] == {"macs": 3.0}
    assert record.metrics["network"]["parameters"] == 3 * 8 * 9 + 16 + 27
    assert record.metrics["network"]["macs"] == 6 * 6 * 8 * 27 + 24
    assert record.recipe is not None
    assert (record.recipe.iterations, record.recipe.effective_batch) == (24, 10)
    assert record.network is not None
    assert record.network.pixels is not None
    assert record.network.pixels.mean == pytest.approx([123.675, 116.28, 103.53])
    assert record.data.train is not None
    assert record.data.val is not None
    assert (record.data.train.images, record.data.val.images) == (60, 30)
    assert [entry.iteration for entry in record.evaluations] == [6, 12, 18, 24]
    assert record.evaluated_weights is not None
    assert record.evaluated_weights.selection == "last"
    assert record.files == {}
    assert not (job.folder / STATE_NAME).exists()


def test_the_test_split_stays_shut_while_training(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from rexdet.transfer import job as module

    order: list[str] = []

    def watched(*args, **kwargs):
        order.append("train")
        return train(*args, **kwargs)

    def opened() -> ImageSet:
        order.append("test")
        raise UserError("the test images cannot be read")

    monkeypatch.setattr(module, "train", watched)
    with pytest.raises(UserError, match="cannot be read"):
        run_job(replace(job, test=opened))
    assert order == ["train", "test"]
    record = read_record(job.folder)
    assert (record.status, record.metrics) == ("failed", {})
    # The training has been kept: the next start has only to evaluate.
    assert (job.folder / STATE_NAME).is_file()
    assert run_job(job).status == "done"


def test_a_stopped_run_gives_the_record_of_a_whole_one(job: Job, tmp_path: Path) -> None:
    whole = run_job(replace(job, folder=tmp_path / "whole"))

    def interrupted() -> ImageSet:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(replace(job, test=interrupted))
    assert read_record(job.folder).status == "killed"
    again = run_job(job)
    assert again.metrics == whole.metrics
    assert again.evaluations == whole.evaluations
    assert len(again.resumed_at) == 1


def test_a_loss_that_is_not_finite_is_in_the_record(job: Job) -> None:
    with pytest.raises(UserError, match="the loss is"):
        run_job(replace(job, protocol=job.protocol.changed(learning_rate=1e30, warm_up=0.0)))
    record = read_record(job.folder)
    assert record.status == "failed"
    assert record.failure is not None
    assert (record.failure.loss_term, record.failure.type) == ("cross_entropy", "DivergedError")
    assert record.failure.step is not None
    assert len(record.failure.image_ids or []) == 10
