"""What the text of a detection run's configuration says, in the words of the published protocols and tables."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from rexdet.published.protocols import UNKNOWN

_DETECTORS = {
    "retinanet": "retinanet",
    "fasterrcnn": "faster_rcnn",
    "maskrcnn": "mask_rcnn",
    "cascadercnn": "cascade_rcnn",
    "singlestagedetector": "ssdlite",
    "generalizedrcnn": "faster_rcnn",
}


@lru_cache(maxsize=4096)
def detector_in(config: str, with_masks: bool) -> str:
    """The detector's kind, as the published tables call it, or as its toolbox does."""
    if found := re.search(r"META_ARCHITECTURE: (\w+)", config):
        kind = "maskrcnn" if re.search(r"MASK_ON: true", config) and "RCNN" in found[1] else found[1].lower()
        return _DETECTORS.get(kind, found[1])
    if model := re.search(r"^model = dict\((.*?)^\w", config, re.MULTILINE | re.DOTALL):
        # The type of the whole stands among the outermost words of `model`, four blanks deep.
        types = re.findall(r"^    type='(\w+)'", model[1], re.MULTILINE)
        return _DETECTORS.get(types[-1].lower(), types[-1]) if types else "detector"
    if found := re.search(r"meta_arch\.(\w+)\.\w+", config):
        return found[1]
    return "mask detector" if with_masks else "detector"


@lru_cache(maxsize=4096)
def sizes_in(config: str, engine: str | None) -> tuple[str, str, str]:
    """(size of training images, of test images, augmentation), in the words of the published protocols."""
    if engine == "detectron2" and "INPUT:" in config:
        return _detectron2_sizes(config)
    scales = re.findall(r"scale=\(\s*(\d+),\s*(\d+),?\s*\)", config)
    if engine == "mmdet" and scales:
        names = [re.search(rf"{name}_dataloader = dict\((.*?)^\w", config, re.M | re.S) for name in ("train", "val")]
        sizes = [re.search(r"scale=\(\s*(\d+),\s*(\d+),?\s*\)", part[1]) if part else None for part in names]
        train, test = (f"{size[1]} x {size[2]}" if size else UNKNOWN for size in sizes)
        return train, test, "flip" if "RandomFlip" in (names[0][1] if names[0] else "") else UNKNOWN
    return UNKNOWN, UNKNOWN, UNKNOWN


def _detectron2_sizes(config: str) -> tuple[str, str, str]:
    def number(key: str) -> str:
        found = re.search(rf"^  {key}: (\d+)", config, re.MULTILINE)
        return found[1] if found else "?"

    sides = re.search(r"^  MIN_SIZE_TRAIN:\n((?:  - \d+\n)+)", config, re.MULTILINE)
    shorter = [int(side) for side in re.findall(r"\d+", sides[1])] if sides else []
    steps = {after - before for before, after in pairwise(shorter)}
    span = ", ".join(map(str, shorter))
    if len(steps) == 1:
        span = f"{shorter[0]} to {shorter[-1]} in steps of {steps.pop()}"
    flip = re.search(r"RANDOM_FLIP: (\w+)", config)
    is_cropped = re.search(r"CROP:\n    ENABLED: true", config)
    words = ["flip"] if flip and flip[1] == "horizontal" else []
    words += ["crop"] if is_cropped else []
    return (
        f"shorter side {span}, longer at most {number('MAX_SIZE_TRAIN')}" if shorter else UNKNOWN,
        f"shorter side {number('MIN_SIZE_TEST')}, longer at most {number('MAX_SIZE_TEST')}",
        ", ".join(words) or "none",
    )
