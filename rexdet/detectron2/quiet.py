"""Silence about random weights, for those who build detectors without training them in earnest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_warnings() -> Iterator[None]:
    """Inside, this room warns of nothing: that a network starts from random weights is no news to a counter."""
    logger = logging.getLogger("rexdet.detectron2")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
