"""The protocol of a transfer run, read off whatever its configuration holds."""

from __future__ import annotations

import pytest

from rexdet.report.records.groups import group
from rexdet.report.records.reading import Found
from rexdet.report.records.transfer_protocol import augmentation
from rexdet.report.tables.detection import comparison_table
from rexdet.report.tables.networks import Known


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("protocol:\n  augmentation:\n    flip: true\n    pad: 4\n", "crop from 4 pixels of padding, flip"),
        (
            "protocol:\n  augmentation:\n    random_resized_crop:\n      scale: [0.25, 1.0]\n",
            "random resized crop 0.25 to 1",
        ),
        ("protocol:\n  augmentation:\n    random_resized_crop: {}\n    mixup: 0.2\n", "random resized crop, mixup 0.2"),
        ("protocol:\n  augmentation:\n", "none"),
        ("protocol: {}\n", "none"),
    ],
)
def test_augmentation_in_words(transfer, lines, words) -> None:
    record = transfer()
    assert augmentation(record.model_copy(update={"config": record.config + lines})) == words


ODD = (
    "when: 2026-99-99\n",
    "protocol:\n  augmentation:\n    mixup: abc\n",
    "protocol:\n  augmentation:\n    mixup: true\n",
    "protocol:\n  augmentation:\n    pad: [1]\n",
    "protocol:\n  augmentation:\n    random_resized_crop:\n      scale: 3\n",
    "protocol:\n  augmentation:\n    random_resized_crop:\n      scale: [a, b]\n",
    "protocol:\n  augmentation:\n    random_resized_crop:\n      scale: []\n",
    f"protocol:\n  augmentation:\n    mixup: 1{'0' * 400}\n",
    "protocol:\n  augmentation: [flip]\n",
    "protocol: fine_tune\n",
    "? [a, b]\n: c\n",
    "]\n",
)


@pytest.mark.parametrize("lines", ODD)
def test_what_no_run_writes_is_unknown_and_ends_nothing(transfer, lines) -> None:
    record = transfer(dataset="flowers102")
    odd = record.model_copy(update={"config": record.config + lines})
    assert augmentation(odd) == "unknown"
    # Published numbers stand beside it: the protocol of the run is asked for.
    table = comparison_table(group([Found(odd, "odd")]), Known(metrics={"flowers102": "mean_per_class"}))
    assert table.rows
