"""Polygons that are true to the pixels of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mask_to_polygons(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[list[int]]:
    """Trace the pixel edges of a mask without holes: one polygon [x0, y0, x1, y1, ...] for each of its parts.

    mask: (H, W) bool. left, top: where its upper left pixel lies in the picture, added to all coordinates.
    Drawn by pycocotools, the polygons give the mask back to the pixel. A hole would be filled: COCO polygons have none.

    The corners of the outline are the grid points around which an odd number of the four pixels is set; where only two
    diagonal pixels are, one corner of each lies there. Sorted along rows, each two neighbours bound a horizontal edge;
    sorted along columns, a vertical one; a polygon follows the two kinds of edge in turn.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    here, right = padded[:-1, :-1], padded[:-1, 1:]
    below, beyond = padded[1:, :-1], padded[1:, 1:]
    corner_count = (here + right + below + beyond) % 2 + 2 * ((here == beyond) & (right == below) & (here != right))
    rows, columns = np.nonzero(corner_count)
    repeats = corner_count[rows, columns]
    falling = np.repeat(here[rows, columns] == 1, repeats)
    rows, columns = np.repeat(rows, repeats), np.repeat(columns, repeats)

    # np.nonzero lists the points row by row, so corner k and k ^ 1 share a horizontal edge as they stand. Of two
    # corners on one point the first has the edge to the left, so the edge upwards belongs to it where the pixels fall
    # from upper left to lower right, and to the second where they rise: diagonal neighbours do not count as joined.
    order = np.arange(len(rows))
    by_column = np.lexsort((np.where(falling, order, -order), rows, columns))
    vertical_partner = np.empty(len(rows), dtype=np.int64)
    vertical_partner[by_column] = by_column[order ^ 1]

    partner, xs, ys = vertical_partner.tolist(), (columns + left).tolist(), (rows + top).tolist()
    visited = bytearray(len(partner))
    polygons: list[list[int]] = []
    for start in range(len(partner)):
        if visited[start]:
            continue
        polygon: list[int] = []
        corner = start
        while not visited[corner]:
            neighbour = corner ^ 1
            visited[corner] = visited[neighbour] = 1
            polygon += (xs[corner], ys[corner], xs[neighbour], ys[neighbour])
            corner = partner[neighbour]
        polygons.append(polygon)
    return polygons
