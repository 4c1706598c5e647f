"""The 12 COCO numbers in MMDetection, from the evaluator that every engine here uses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from rexdet.coco.annotations import CocoDataset, read_annotations
from rexdet.coco.detections import Detections
from rexdet.coco.evaluate import evaluate
from rexdet.errors import UserError

logger = logging.getLogger("rexdet.mmdet")

TYPES = ("bbox", "segm")


@METRICS.register_module()
class RexDetCocoMetric(BaseMetric):
    """AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl, each 0 to 1, unrounded: "coco/bbox_AP", "coco/segm_AP" ...

    ann_file: the COCO annotation file. metric: "bbox", "segm", or a list of them.
    detections: a file for the detections (COCO results, the annotation file's category ids); "" writes none.

    Classes are matched by name: what the model finds of a class that the file lacks is left out. A number of an empty
    area range is left out of the result; MMDetection's own metric rounds to three decimals and has -1 there.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str,
        metric: str | Sequence[str] = "bbox",
        detections: str = "",
        *,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file = ann_file
        self.types = (metric,) if isinstance(metric, str) else tuple(metric)
        self.detections = detections
        unknown = [name for name in self.types if name not in TYPES]
        if unknown or not self.types:
            raise UserError(f"metric is {metric!r}", "RexDetCocoMetric.metric", f"one or both of {', '.join(TYPES)}")
        self._truth: CocoDataset | None = None

    @property
    def truth(self) -> CocoDataset:
        """The annotation file, read once."""
        if self._truth is None:
            self._truth = read_annotations(self.ann_file, purpose="evaluate")
            self._truth.raise_if_refused()
        return self._truth

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the detections of a batch: (image id, boxes, scores, labels, masks) of each picture."""
        for sample in data_samples:
            found = sample["pred_instances"]
            masks = found["masks"].cpu().numpy() if "segm" in self.types else None
            arrays = (found[key].detach().cpu().numpy() for key in ("bboxes", "scores", "labels"))
            self.results.append((int(sample["img_id"]), *arrays, masks))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Score everything that all processes have found; a picture that two of them predicted counts once."""
        categories = self._categories()
        pictures = {result[0]: result[1:] for result in results}
        parts = []
        for image_id, (boxes, scores, labels, masks) in sorted(pictures.items()):
            kept = [row for row, label in enumerate(labels) if categories[label] is not None]
            parts.append(
                Detections.from_image(
                    image_id,
                    boxes[kept],
                    scores[kept],
                    [categories[labels[row]] for row in kept],
                    None if masks is None else masks[kept],
                )
            )
        everything = Detections.concatenate(parts)
        if self.detections:
            everything.save(self.detections)
        numbers: dict[str, float] = {}
        for kind in self.types:
            # Scored from the file where there is one, so that scoring it again gives the same numbers.
            evaluation = evaluate(self.truth, self.detections or everything, kind)
            logger.info("%s\n%s", kind, evaluation.table())
            numbers |= {f"{kind}_{key}": value for key, value in evaluation.numbers.items() if value is not None}
        return numbers

    def _categories(self) -> list[int | None]:
        """The annotation file's category id of each label of the model; None for a class that the file lacks."""
        names = list((self.dataset_meta or {}).get("classes", ()))
        ids = {category.name: category.id for category in self.truth.categories}
        unknown = [name for name in ids if name not in names]
        if len(unknown) == len(ids):
            raise UserError(
                f"none of its {len(ids)} classes is known to the model, first {unknown[0]!r}",
                self.ann_file,
                "give the data set's metainfo its classes, in the order of the training annotations",
            )
        return [ids.get(name) for name in names]
