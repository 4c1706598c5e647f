"""Runs: the record that each leaves, its life, and the states that let it go on bit-identically.

Standard library and pydantic; `state.py` loads torch and NumPy when they are used.
"""

from __future__ import annotations

from rexdet.runs.begin import check_folder, clear_folder
from rexdet.runs.environment import collect_hardware, collect_versions, peak_memory
from rexdet.runs.parts import (
    COCO_KEYS,
    Data,
    DataSplit,
    Event,
    Failure,
    Finding,
    Network,
    PeakMemory,
    PeriodicEvaluation,
    Pixels,
    Recipe,
    TimeShare,
    WeightsFile,
    differences,
)
from rexdet.runs.record import RunRecord, read_record, record_path, write_record
from rexdet.runs.run import Run
from rexdet.runs.state import (
    ResumableSampler,
    capture_random_state,
    restore_random_state,
    sample_generator,
    sample_randomness,
    seed_everything,
)
from rexdet.runs.timing import TimeShares

__all__ = [
    "COCO_KEYS",
    "Data",
    "DataSplit",
    "Event",
    "Failure",
    "Finding",
    "Network",
    "PeakMemory",
    "PeriodicEvaluation",
    "Pixels",
    "Recipe",
    "ResumableSampler",
    "Run",
    "RunRecord",
    "TimeShare",
    "TimeShares",
    "WeightsFile",
    "capture_random_state",
    "check_folder",
    "clear_folder",
    "collect_hardware",
    "collect_versions",
    "differences",
    "peak_memory",
    "read_record",
    "record_path",
    "restore_random_state",
    "sample_generator",
    "sample_randomness",
    "seed_everything",
    "write_record",
]
