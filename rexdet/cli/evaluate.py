"""`evaluate`: scores a file of detections against an annotation file."""

from __future__ import annotations

import argparse
import json

from rexdet.coco.annotations import read_annotations
from rexdet.coco.detections import read_detections
from rexdet.coco.evaluate import evaluate

HELP = "the 12 COCO numbers of saved detections, for boxes or masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", required=True, metavar="J", help="COCO annotation file (instances_*.json)")
    parser.add_argument("--detections", required=True, metavar="J", help="COCO results file (detections.json)")
    parser.add_argument("--type", choices=("bbox", "segm"), default="bbox", help="score boxes or masks (default bbox)")
    parser.add_argument("--per-class", action="store_true", help="also the numbers of every class")
    parser.add_argument("--json", action="store_true", help="as JSON, 0 to 1, null where there is no ground truth")


def run(arguments: argparse.Namespace) -> int:
    dataset = read_annotations(arguments.annotations, purpose="evaluate")
    dataset.raise_if_refused()
    detections = read_detections(arguments.detections, dataset)
    evaluation = evaluate(dataset, detections, arguments.type)
    if arguments.json:
        print(json.dumps(evaluation.as_json(per_class=arguments.per_class), indent=2, allow_nan=False))
    else:
        print(evaluation.table(per_class=arguments.per_class))
    return 0
