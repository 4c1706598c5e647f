"""check_data: look at a data set in COCO form before training on it."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from rexdet.detection import choose_engine, find_config
from rexdet.errors import UserError

HELP = "look at a COCO data set before training: counts, broken files, leaks; --fix writes a cleaned copy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `check_data`."""
    parser.add_argument("--annotations", required=True, metavar="JSON", help="COCO annotation file")
    parser.add_argument(
        "--images", metavar="FOLDER", help="folder of its images; without it only the file is looked at"
    )
    parser.add_argument("--val-annotations", metavar="JSON", help="the validation set's annotation file, for leaks")
    parser.add_argument("--val-images", metavar="FOLDER", help="the validation set's folder of images")
    parser.add_argument("--output", metavar="FOLDER", help="write a sheet of pictures for each class there")
    parser.add_argument(
        "--config", metavar="FILE", help="with --output: also draw a training batch exactly as the network gets it"
    )
    parser.add_argument(
        "--fix", metavar="FOLDER", help="write a cleaned copy there: annotations.json, images/ and changes.json"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Check, print, and write what was asked for. 0: can be trained on; 2: refused."""
    from rexdet.coco.annotations import read_annotations
    from rexdet.coco.check import check_dataset, find_leaks

    if bool(arguments.val_annotations) != bool(arguments.val_images):
        raise UserError("--val-annotations and --val-images belong together")
    if arguments.config and not arguments.output:
        raise UserError("--config draws a batch, which needs a place", fix="give --output")
    if (arguments.output or arguments.fix or arguments.val_images) and not arguments.images:
        raise UserError("the images are needed for this", fix="give --images")
    dataset = read_annotations(arguments.annotations, arguments.images, purpose="check")
    report = check_dataset(dataset)
    result: dict[str, Any] = {
        "annotations": arguments.annotations,
        "images": arguments.images,
        "fingerprint": dataset.fingerprint,
        "refused": report.refused,
        "findings": [finding.as_json() for finding in report.findings],
        "statistics": report.statistics,
    }
    findings = list(report.findings)
    refused = report.refused
    if arguments.val_annotations:
        val = read_annotations(arguments.val_annotations, arguments.val_images, purpose="check")
        val_report = check_dataset(val)
        refused = refused or val_report.refused
        findings += val_report.findings
        result |= {
            "val": {
                "annotations": arguments.val_annotations,
                "images": arguments.val_images,
                "fingerprint": val.fingerprint,
                "refused": val_report.refused,
                "findings": [finding.as_json() for finding in val_report.findings],
                "statistics": val_report.statistics,
            },
            "leaks": find_leaks(report, val_report),
            "classes_only_in_train": sorted(set(dataset.class_names) - set(val.class_names)),
            "classes_only_in_val": sorted(set(val.class_names) - set(dataset.class_names)),
        }
    if not arguments.json:
        _print_text(result, findings)
    written = _write(arguments, dataset, report) if not refused else {}
    if arguments.json:
        print(json.dumps(result | {"written": written}, indent=2))
    else:
        for what, place in written.items():
            print(f"{what}: {place if isinstance(place, str) else ', '.join(place)}")
    if refused:
        count = sum(finding.action == "refuse" for finding in findings)
        print(f"error: {arguments.annotations}: not fit to be worked with: {count} refused, see above", file=sys.stderr)
        return 2
    if not arguments.json:
        print("can be trained on")
    return 0


def _write(arguments: argparse.Namespace, dataset: Any, report: Any) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if arguments.output:
        from rexdet.coco.draw import class_sheets

        written["sheets"] = [str(path) for path in class_sheets(dataset, Path(arguments.output) / "classes")]
        if arguments.config:
            written["batch"] = str(_draw_batch(arguments, Path(arguments.output) / "batch.png"))
    if arguments.fix:
        from rexdet.coco.clean import write_cleaned_copy

        changes = write_cleaned_copy(dataset, arguments.fix, report.broken)
        written["cleaned copy"] = f"{arguments.fix} ({len(changes)} changes, listed in changes.json)"
    return written


def _draw_batch(arguments: argparse.Namespace, path: Path) -> Path:
    # The batch is made by the training code itself, so that what is drawn is what the network gets.
    config = find_config(arguments.config)
    try:
        draw = importlib.import_module(f"rexdet.{choose_engine(config)}.batch_picture").draw_training_batch
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the engine that makes batches cannot be used here ({error})",
            "--config",
            "tools/doctor.py says what is missing",
        ) from error
    draw(config, arguments.annotations, arguments.images, path)
    return path


def _print_text(result: dict[str, Any], findings: list[Any]) -> None:
    for finding in findings:
        print(finding)
    _print_statistics(result["annotations"], result["statistics"])
    if "val" not in result:
        return
    _print_statistics(result["val"]["annotations"], result["val"]["statistics"])
    for leak in result["leaks"]:
        pair = f"image {leak['val']} of the validation set is image {leak['train']} of the training set"
        print(f"leak: {pair} (same {leak['same']})")
    print(f"images in both sets: {len(result['leaks'])}")
    for key, where in (("classes_only_in_train", "training"), ("classes_only_in_val", "validation")):
        if result[key]:
            print(f"classes that only the {where} set lists: {', '.join(result[key])}")


def _print_statistics(name: str, numbers: dict[str, Any]) -> None:
    from tabulate import tabulate

    print(f"\n{name}")
    rows = [(key.replace("_", " "), _spelled(value)) for key, value in numbers.items() if key != "per_class"]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True))
    classes = [
        (row["id"], row["name"], row["annotations"], row["crowds"], row["images"]) for row in numbers["per_class"]
    ]
    print()
    print(tabulate(classes, headers=("id", "class", "annotations", "crowds", "images"), disable_numparse=True))
    print()


def _spelled(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        low, high, middle = (f"{number:.2f}".rstrip("0").rstrip(".") for number in value.values())
        return f"{low} to {high}, median {middle}"
    return str(value)
