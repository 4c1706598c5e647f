"""What the image files say about a table of annotations: where they lie, their sizes, and how EXIF would turn them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rexdet.coco.findings import SHOWN, Findings
from rexdet.coco.picture_files import AMBIGUOUS, BY_BASE_NAME, MISSING, Located, locate
from rexdet.coco.picture_headers import read_headers
from rexdet.coco.schema import Table

Bools = npt.NDArray[np.bool_]

FIT = 2.0
"""px by which boxes may pass a border and still count as fitting the picture, when two sizes are to be told apart."""


@dataclass(slots=True)
class Pictures:
    """What is known about the files of I images.

    sizes: int64 (I, 2), width and height, 0 where unknown. turned: bool (I,), EXIF turns the pixels to that size.
    unreadable: bool (I,), no image could be recognised in the file.
    """

    located: Located
    sizes: npt.NDArray[np.int64]
    turned: Bools
    unreadable: Bools


def look_at_pictures(table: Table, root: Path | None, purpose: str, findings: Findings) -> Pictures:
    """Look at the files of a table's images below `root` (None: at none), and note what is found.

    purpose: "evaluate" gets along without sizes. Raises UserError where `root` is no readable folder.
    """
    count = len(table.image_ids)
    sizes = table.image_sizes.copy()
    nothing = np.zeros(count, bool)
    if root is None:
        findings.add(
            "accept" if purpose == "evaluate" else "refuse",
            "image-size-unknown",
            "images without width or height, with no folder of images given to take them from, by id",
            table.image_ids[(sizes == 0).any(axis=1)],
        )
        return Pictures(Located([""] * count, np.zeros(count, np.uint8), ()), sizes, nothing, nothing)
    names = [name.decode("utf-8", "surrogatepass") for name in table.names]
    located = locate(root, names)
    _file_findings(located, names, root, findings)
    facts = read_headers(root, located.paths).astype(np.int64)
    there = np.fromiter(map(bool, located.paths), bool, count)
    readable = facts[:, 0] > 0
    unreadable = there & ~readable
    findings.add(
        "skip",
        "image-unreadable",
        "files that cannot be read as images",
        _at(names, unreadable),
        int(unreadable.sum()),
    )
    turned = _settle_sizes(table, sizes, facts, readable, names, findings)
    return Pictures(located, sizes, turned, unreadable)


def _at(names: list[str], which: Bools) -> list[str]:
    return [names[row] for row in np.flatnonzero(which)[:SHOWN]]


def _file_findings(located: Located, names: list[str], root: Path, findings: Findings) -> None:
    for how, action, code, clause in (
        (MISSING, "refuse", "image-missing", f"image files that are not in {root}"),
        (AMBIGUOUS, "refuse", "image-ambiguous", f"image files that fit several files in {root}"),
        (BY_BASE_NAME, "mend", "file-by-base-name", f"image files found in {root} only by their base name"),
    ):
        which = located.how == how
        findings.add(action, code, clause, _at(names, which), int(which.sum()))
    found = [path for path in located.paths if path]
    # The same name twice is the schema's finding; here different names lead to one file.
    if len(set(found)) < len(found) and len(set(names)) == len(names):
        owners: dict[str, str] = {}
        twice = [
            f"{name} and {owners[path]}"
            for name, path in zip(names, located.paths, strict=True)
            if path and owners.setdefault(path, name) != name
        ]
        findings.add("refuse", "image-file-twice", "entries that lead to another image's file", twice)


def _settle_sizes(
    table: Table,
    sizes: npt.NDArray[np.int64],
    facts: npt.NDArray[np.int64],
    readable: Bools,
    names: list[str],
    findings: Findings,
) -> Bools:
    """Fill in missing sizes in place, compare the others with the files, and say which pictures EXIF has to turn."""
    stored, upright = facts[:, :2], facts[:, 1::-1]
    quarter = facts[:, 2] >= 5
    fits_stored, fits_upright = _boxes_fit(table, stored), _boxes_fit(table, upright)
    missing = (sizes == 0).any(axis=1)
    filled = missing & readable
    fill_turned = filled & quarter & ~fits_stored & fits_upright
    findings.add(
        "accept",
        "image-size-missing",
        "images without width or height, taken from the files, by id",
        table.image_ids[filled],
    )
    compared = readable & ~missing
    sizes[filled] = stored[filled]
    sizes[fill_turned] = upright[fill_turned]
    same = compared & (sizes == stored).all(axis=1)
    explained = compared & ~same & quarter & (sizes == upright).all(axis=1)
    turned = (explained & fits_upright) | fill_turned
    differs = compared & ~same & ~turned

    def describe(which: Bools) -> list[str]:
        return [
            f"{names[row]} (declared {sizes[row, 0]}x{sizes[row, 1]}, file {facts[row, 0]}x{facts[row, 1]}"
            + (f", EXIF orientation {facts[row, 2]})" if facts[row, 2] > 1 else ")")
            for row in np.flatnonzero(which)[:SHOWN]
        ]

    contradiction = same & quarter & (stored[:, 0] != stored[:, 1]) & ~fits_stored & fits_upright
    for action, code, which, clause in (
        ("refuse", "image-size-differs", differs, "images of another size than the annotation file declares"),
        (
            "refuse",
            "exif-contradicts-boxes",
            contradiction,
            "images whose boxes fit only the picture as EXIF turns it, while the declared size is the unturned one",
        ),
        ("accept", "exif-turned", turned, "images turned by EXIF to the declared size"),
        (
            "accept",
            "exif-not-applied",
            compared & same & (facts[:, 2] > 1) & ~contradiction,
            "images whose EXIF orientation is not applied, as the declared size is that of the stored pixels",
        ),
    ):
        findings.add(action, code, clause, table.image_ids[which], shown=describe(which))
    return turned


def _boxes_fit(table: Table, sizes: npt.NDArray[np.int64]) -> Bools:
    """bool (I,): every box of the image lies inside a picture of this size, give or take `FIT` px."""
    reach = np.zeros((len(table.image_ids), 2))
    np.maximum.at(reach, table.image_rows, table.boxes[:, :2] + table.boxes[:, 2:])
    return np.asarray((reach <= sizes + FIT).all(axis=1))
