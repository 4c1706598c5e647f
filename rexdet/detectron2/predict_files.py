"""A trained detector on pictures of one's own: drawings and COCO JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from rexdet.coco.detections import Detections
from rexdet.coco.draw import draw_detections, write_png
from rexdet.coco.images import UnreadableImage, load_image
from rexdet.detectron2.data import network_input
from rexdet.detectron2.plan import Plan, make_plan
from rexdet.detectron2.predict import predict_one
from rexdet.detectron2.resume import is_own, load_detector, read_checkpoint
from rexdet.detectron2.scores import objects_of
from rexdet.detectron2.step import autocast_type
from rexdet.errors import UserError
from rexdet.files import write_json_atomically
from rexdet.job import DetectionJob

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
COCO_FILE = "predictions.json"
RESULTS_FILE = "detections.json"


def predict_files(job: DetectionJob, source: str, score_threshold: float) -> int:
    """Detect on one picture or on every picture below a folder; write drawings and COCO JSON into job.output.

    Written are detections of at least `score_threshold` (0 to 1): `pictures/*.png`, `predictions.json` (images,
    categories with the names that the checkpoint carries, annotations with a score) and `detections.json` (a COCO
    results list with the same image ids). Pictures that cannot be read are named and left out.

    Returns 0. Raises UserError: no pictures, a checkpoint that carries no class names or does not fit the config.
    """
    if not 0.0 <= score_threshold <= 1.0:
        raise UserError(f"--score-threshold is {score_threshold}", fix="give a number between 0 and 1")
    files = list_pictures(Path(source))
    detector, plan, names, ids = load_trained(job)
    output = Path(job.output)
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    images: list[dict[str, Any]] = []
    parts: list[Detections] = []
    unreadable = 0
    for file in tqdm(files, desc="predicting", unit="image", delay=5):
        try:
            picture = load_image(file)
        except UnreadableImage as error:
            print(f"left out: {error}")
            unreadable += 1
            continue
        predicted = predict_one(
            detector, network_input(picture, plan.test_augmentations, plan.image_format), autocast_type(plan.amp)
        )
        predicted = predicted[predicted.scores >= score_threshold]
        image_id = len(images) + 1
        relative = file.relative_to(root).as_posix()
        images.append({"id": image_id, "file_name": relative, "height": picture.shape[0], "width": picture.shape[1]})
        parts.append(
            Detections.from_image(
                image_id,
                predicted.pred_boxes.tensor,
                predicted.scores,
                [ids[index] for index in predicted.pred_classes.tolist()],
                predicted.pred_masks.numpy() if plan.use_masks and predicted.has("pred_masks") else None,
            )
        )
        drawn = objects_of(predicted, tuple(names))
        name = relative.replace("/", "__")
        write_png(
            output / "pictures" / f"{Path(name).stem}.png",
            draw_detections(picture, drawn.boxes, drawn.labels, drawn.scores, drawn.masks),
        )
    if not images:
        raise UserError(f"none of the {len(files)} pictures can be read", where=source)
    detections = Detections.concatenate(parts)
    detections.save(output / RESULTS_FILE)
    write_json_atomically(output / COCO_FILE, _as_coco(images, detections, names, ids), indent=None)
    left_out = f", {unreadable} left out" if unreadable else ""
    print(f"{len(detections)} detections on {len(images)} pictures{left_out}")
    print(f"pictures: {output / 'pictures'}")
    print(f"COCO:     {output / COCO_FILE}")
    return 0


def list_pictures(source: Path) -> list[Path]:
    """The picture itself, or every picture below a folder, sorted. Raises UserError where there is none."""
    if source.is_file():
        return [source]
    if not source.exists():
        raise UserError("no such picture or folder", where=str(source))
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise UserError(f"no pictures here (looked for {', '.join(IMAGE_ENDINGS)})", where=str(source))
    return files


def load_trained(job: DetectionJob) -> tuple[nn.Module, Plan, list[str], list[int]]:
    """The detector of a checkpoint in evaluation mode, its plan, and its class names and category ids."""
    from rexdet.detectron2.run import check_rule, restore_choices

    content = read_checkpoint(job.weights)
    if not is_own(content):
        raise UserError("carries no class names: it was not written by train_det.py", where=job.weights)
    identity = content["rexdet"]
    names, ids = list(identity["classes"]["names"]), list(identity["classes"]["ids"])
    plan = make_plan(job, classes=len(names))
    check_rule(plan, identity, job.weights)
    restore_choices(plan, identity, job.weights)
    detector = plan.build_model()
    load_detector(detector, content, job.weights)
    return detector.to(torch.device(plan.device)).eval(), plan, names, ids


def _as_coco(images: list[dict[str, Any]], detections: Detections, names: list[str], ids: list[int]) -> dict[str, Any]:
    annotations = []
    for row in range(len(detections)):
        x, y, width, height = (float(value) for value in detections.boxes[row])
        annotation: dict[str, Any] = {
            "id": row + 1,
            "image_id": int(detections.image_ids[row]),
            "category_id": int(detections.category_ids[row]),
            "bbox": [x, y, width, height],
            "area": width * height,
            "iscrowd": 0,
            "score": float(detections.scores[row]),
        }
        if detections.masks is not None:
            annotation["segmentation"] = dict(detections.masks[row])
        annotations.append(annotation)
    categories = [{"id": number, "name": name} for number, name in zip(ids, names, strict=True)]
    return {"images": images, "categories": categories, "annotations": annotations}
