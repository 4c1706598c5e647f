"""The same function, faster: folded and compiled networks, and networks in other runtimes."""

from __future__ import annotations

from rexdet.inference.export import export_onnx, export_program
from rexdet.inference.fold import fold
from rexdet.inference.optimize import BACKENDS, OptimizedNetwork, optimize_for_inference

__all__ = ["BACKENDS", "OptimizedNetwork", "export_onnx", "export_program", "fold", "optimize_for_inference"]
