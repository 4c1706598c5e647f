"""Loading a picture in a pipeline of MMDetection, with the checks that every picture gets here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import Image

from rexdet.coco.images import UnreadableImage, load_image
from rexdet.mmdet.types import type_name

LOADER = "RexDetLoadImageFromFile"
# The last bytes of a file that is whole, somewhere in its last 64: people append a little to their JPEG files.
_ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 64


@TRANSFORMS.register_module()
class RexDetLoadImageFromFile(LoadImageFromFile):
    """MMDetection's loading, which refuses what is not whole and turns a picture only where its boxes are turned.

    Usual pictures (RGB and grey JPEG and PNG) are decoded as MMDetection does. The others (transparency, CMYK, 16 bit,
    other formats) and those that look cut off are read as everywhere here: see rexdet.coco.images.

    Raises UnreadableImage: no such file, no image, cut off, or of another size than the annotations declare.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        path, declared = results["img_path"], (results["width"], results["height"])
        if path is None:
            raise UnreadableImage("there is no such image file", str(results.get("file_name", "")))
        picture = self._as_usual(path, turned=results.get("turned", False))
        if picture is None or (0 not in declared and picture.shape[1::-1] != declared):
            picture = np.ascontiguousarray(load_image(path, declared)[:, :, ::-1])
        results["img"] = picture.astype(np.float32) if self.to_float32 else picture
        results["img_shape"] = results["ori_shape"] = picture.shape[:2]
        return results

    def _as_usual(self, path: str, *, turned: bool) -> np.ndarray | None:
        """uint8 (H, W, 3) BGR; None where MMDetection's decoder is not to be trusted with the file."""
        try:
            with open(path, "rb") as file:
                data = file.read()
            with Image.open(path) as header:
                plain = header.mode in ("RGB", "L") and "transparency" not in header.info
                ending = _ENDINGS.get(header.format or "")
        except (OSError, ValueError, SyntaxError):
            return None
        if not plain or ending is None or ending not in data[-_TAIL:]:
            return None
        flag = "color" if turned else "color_ignore_orientation"
        picture: np.ndarray | None = mmcv.imfrombytes(data, flag=flag, backend=self.imdecode_backend)
        return picture


def with_own_loader(step: Any) -> Any:
    """A step of a pipeline, or, where it loads a colour picture from a file, the same with our checks."""
    if not isinstance(step, Mapping) or type_name(step) != "LoadImageFromFile":
        return step
    if step.get("color_type", "color") != "color" or step.get("backend_args") or step.get("file_client_args"):
        return step
    kept = {key: step[key] for key in ("to_float32", "imdecode_backend") if key in step}
    return {"type": LOADER, **kept}
