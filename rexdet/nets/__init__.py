"""The networks. This room imports torch alone."""

from __future__ import annotations

from rexdet.nets.complexity import Complexity, count
from rexdet.nets.features import Backbone, Feature
from rexdet.nets.nm_relu import NmReport, apply_nm_rule
from rexdet.nets.resnet import ResNet
from rexdet.nets.rexnet import ReXNet

__all__ = ["Backbone", "Complexity", "Feature", "NmReport", "ReXNet", "ResNet", "apply_nm_rule", "count"]
