"""What a part of an mmengine config is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def type_name(node: Any) -> str:
    """The name of a part's `type` without its scope: "CocoDataset" for "mmdet.CocoDataset"; "" where it has none."""
    if not isinstance(node, Mapping):
        return ""
    kind = node.get("type", "")
    return kind.rpartition(".")[2] if isinstance(kind, str) else str(getattr(kind, "__name__", ""))
