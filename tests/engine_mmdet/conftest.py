"""What the tests of this room share. Where MMDetection is not installed they are skipped: `make setup-mmdet`."""

from __future__ import annotations

import pytest

pytest.importorskip("mmdet", reason="MMDetection is not installed: make setup-mmdet")

import rexdet.mmdet  # noqa: F401  (provides mmcv's operators and registers the backbone)
