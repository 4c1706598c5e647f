"""An evaluation as text for a person and as JSON for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tabulate import tabulate

if TYPE_CHECKING:
    from rexdet.coco.evaluate import Evaluation

DASH = "–"


def percent(value: float | None) -> str:
    """0.3714 -> "37.1"; None -> a dash."""
    return DASH if value is None else f"{100 * value:.1f}"


def evaluation_table(evaluation: Evaluation, *, per_class: bool = False) -> str:
    """The 12 numbers in percent, what was counted, and what a reader must know before quoting them."""
    keys = list(evaluation.numbers)
    parts = [
        tabulate([[percent(evaluation.numbers[key]) for key in keys[begin : begin + 6]]], keys[begin : begin + 6])
        for begin in (0, 6)
    ]
    if per_class:
        parts.append(_class_table(evaluation))
    parts.append("\n".join(_remarks(evaluation)))
    return "\n\n".join(parts)


def _class_table(evaluation: Evaluation) -> str:
    columns = ("AP", "AP50", "APs", "APm", "APl", "AR100")
    rows = [
        [entry.id, entry.name, entry.objects, entry.detections]
        + [percent(entry.numbers[column]) for column in columns]
        + ["" if entry.has_ground_truth else "no ground truth"]
        for entry in evaluation.per_class
    ]
    return tabulate(rows, ["id", "class", "objects", "detections", *columns, ""], disable_numparse=True)


def _number(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _remarks(evaluation: Evaluation) -> list[str]:
    counts = evaluation.counts
    kind = "box" if evaluation.iou_type == "bbox" else "mask"
    images = f"{_number(counts['images'], 'image')} ({counts['images_without_objects']} without objects)"
    others = (("objects", "object"), ("crowds", "crowd region"), ("detections", "detection"))
    boxes = ", ".join(_number(counts[key], name) for key, name in others)
    lines = [f"{kind} AP, percent; {images}, {boxes}"]
    if counts["detections_beyond_100"]:
        lines.append(f"{counts['detections_beyond_100']} detections beyond 100 an image and class are not scored")
    if counts.get("masks_of_another_size"):
        lines.append(
            f"{_number(counts['masks_of_another_size'], 'detected mask')} of another size than the image: "
            "such masks match nothing"
        )
    if counts["objects"] == 0:
        lines.append("no ground truth: there is nothing to find, so AP and AR do not exist")
        lines.append(
            "false positives per image at score: "
            + ", ".join(f"{score:g}: {rate:.3g}" for score, rate in evaluation.false_positives_per_image.items())
        )
    else:
        without = [entry.name for entry in evaluation.per_class if not entry.has_ground_truth]
        if without:
            shown = ", ".join(without[:10]) + (f" and {len(without) - 10} more" if len(without) > 10 else "")
            lines.append(f"no ground truth, kept out of the means: {shown}")
    if evaluation.partial:
        lines.append(
            f"PARTIAL: {len(evaluation.unevaluated_image_ids)} of {counts['images']} images could not be predicted; "
            "their objects count as missed"
        )
    if evaluation.filled_in:
        lines.append(
            "filled in, iscrowd as 0 and area from the box: "
            + ", ".join(f"{count} × {name}" for name, count in evaluation.filled_in.items())
        )
    if evaluation.mendable:
        lines.append(
            "scored as annotated; cleaning would mend "
            + ", ".join(f"{count} × {name}" for name, count in evaluation.mendable.items())
        )
    return lines


def evaluation_json(evaluation: Evaluation, *, per_class: bool = False) -> dict[str, Any]:
    """The 12 numbers at the top level, 0 to 1, None where empty; then what they rest on."""
    content: dict[str, Any] = {
        **evaluation.numbers,
        "type": evaluation.iou_type,
        "counts": dict(evaluation.counts),
        "partial": evaluation.partial,
        "unevaluated_image_ids": list(evaluation.unevaluated_image_ids),
        "no_ground_truth": [entry.name for entry in evaluation.per_class if not entry.has_ground_truth],
        "filled_in": dict(evaluation.filled_in),
        "mendable": dict(evaluation.mendable),
    }
    if evaluation.counts["objects"] == 0:
        content["false_positives_per_image"] = {
            f"{score:g}": rate for score, rate in evaluation.false_positives_per_image.items()
        }
    if per_class:
        content["per_class"] = [
            {
                "id": entry.id,
                "name": entry.name,
                "objects": entry.objects,
                "crowds": entry.crowds,
                "detections": entry.detections,
                **entry.numbers,
            }
            for entry in evaluation.per_class
        ]
    return content
