"""The tables that there are, in their order."""

from __future__ import annotations

TABLES = (
    "answers",
    "networks",
    "detection",
    "transfer",
    "published",
    "protocols",
    "ranks",
    "correlations",
    "pairs",
    "overall",
    "intervals",
    "errors",
    "thresholds",
    "searches",
    "latency",
    "runs",
)
