"""Where the files of COCO 2017 lie below a data folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rexdet.errors import UserError


@dataclass(frozen=True, slots=True)
class CocoPaths:
    """The two annotation files and the two folders of images of COCO 2017."""

    train_annotations: Path
    train_images: Path
    val_annotations: Path
    val_images: Path


def find_coco(data_root: str | os.PathLike[str] | None = None) -> CocoPaths:
    """Find COCO 2017 in its standard layout in `data_root`, or in `data_root`/coco.

    data_root: None for the folder that the variable DETECTRON2_DATASETS names, else ./datasets as detectron2 has it.

    Raises UserError, one line with the files that were looked for and the other ways to give data.
    """
    root = Path(data_root if data_root is not None else os.environ.get("DETECTRON2_DATASETS") or "datasets")
    missing: list[Path] = []
    for base in (root, root / "coco"):
        paths = CocoPaths(
            base / "annotations" / "instances_train2017.json",
            base / "train2017",
            base / "annotations" / "instances_val2017.json",
            base / "val2017",
        )
        absent = [path for path in (paths.train_annotations, paths.val_annotations) if not path.is_file()] + [
            path for path in (paths.train_images, paths.val_images) if not path.is_dir()
        ]
        if not absent:
            return paths
        # The base where more was found is the one that was meant.
        if not missing or len(absent) < len(missing):
            missing = absent
    where = (
        "--data-root"
        if data_root is not None
        else "DETECTRON2_DATASETS"
        if os.environ.get("DETECTRON2_DATASETS")
        else "./datasets"
    )
    raise UserError(
        f"no COCO 2017 in {root} (nor in {root / 'coco'}): missing {', '.join(map(str, missing))}",
        where,
        "name the folder with --data-root, or other files with --train-annotations, --train-images, --val-annotations "
        "and --val-images, or take --dataset embedded, which needs none",
    )
