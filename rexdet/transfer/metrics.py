"""The standard metric of each data set, where tables of many runs have it without the harness (and torch).

Source: Chen et al. 2020 (SimCLR, arXiv 2002.05709, appendix B.8), who follow Kornblith, Shlens and Le 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Metric = Literal["top1", "mean_per_class"]

METRICS: Mapping[str, Metric] = {
    "embedded": "top1",
    "cifar10": "top1",
    "cifar100": "top1",
    "flowers102": "mean_per_class",
    "cars": "top1",
    "food101": "top1",
    "aircraft": "mean_per_class",
    "pets": "mean_per_class",
    "dtd": "top1",
    "caltech101": "mean_per_class",
    "folder": "top1",
}
