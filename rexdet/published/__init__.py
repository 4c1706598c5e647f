"""What papers and model zoos print: every number with where it stands, how far that was checked, and its protocol."""

from __future__ import annotations

from rexdet.published.protocols import Protocol, differences
from rexdet.published.reader import (
    accuracies,
    accuracy,
    cells,
    network_of,
    networks,
    protocol,
    protocols,
    sources,
    tables,
)
from rexdet.published.schema import METRICS, Cell, Metric, Network, Source, Table

__all__ = [
    "METRICS",
    "Cell",
    "Metric",
    "Network",
    "Protocol",
    "Source",
    "Table",
    "accuracies",
    "accuracy",
    "cells",
    "differences",
    "network_of",
    "networks",
    "protocol",
    "protocols",
    "sources",
    "tables",
]
