"""`evaluate`: scores a file of detections against an annotation file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rexdet.coco.annotations import read_annotations
from rexdet.coco.detections import Detections, read_detections
from rexdet.coco.evaluate import evaluate
from rexdet.coco.ground_truth import GroundTruth

HELP = "the 12 COCO numbers of saved detections, for boxes or masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", required=True, metavar="J", help="COCO annotation file (instances_*.json)")
    parser.add_argument("--detections", required=True, metavar="J", help="COCO results file (detections.json)")
    parser.add_argument("--type", choices=("bbox", "segm"), default="bbox", help="score boxes or masks (default bbox)")
    parser.add_argument("--per-class", action="store_true", help="also the numbers of every class")
    parser.add_argument("--intervals", action="store_true", help="also 95%% intervals over resampled images")
    parser.add_argument("--errors", action="store_true", help="also the errors by kind, and what each costs")
    parser.add_argument("--calibration", action="store_true", help="also how often detections of a score are right")
    parser.add_argument("--thresholds", type=float, metavar="BETA", help="also each class's best score for F-beta")
    parser.add_argument("--json", action="store_true", help="as JSON, 0 to 1, null where there is no ground truth")


def run(arguments: argparse.Namespace) -> int:
    dataset = read_annotations(arguments.annotations, purpose="evaluate")
    dataset.raise_if_refused()
    detections = read_detections(arguments.detections, dataset)
    truth = GroundTruth.from_dataset(dataset)
    more = _look_closer(arguments, truth, detections)
    evaluation = evaluate(truth, detections, arguments.type)
    if arguments.json:
        content = evaluation.as_json(per_class=arguments.per_class)
        content.update({name: values for name, (_, values) in more.items()})
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        print("\n\n".join((evaluation.table(per_class=arguments.per_class), *(text for text, _ in more.values()))))
    return 0


def _look_closer(
    arguments: argparse.Namespace, truth: GroundTruth, detections: Detections
) -> dict[str, tuple[str, Any]]:
    """What was asked for beyond the numbers: name -> (text, JSON values)."""
    wanted = (arguments.intervals, arguments.errors, arguments.calibration, arguments.thresholds is not None)
    if not any(wanted):
        return {}
    from dataclasses import asdict

    from rexdet.coco.matched import match_once
    from rexdet.report.statistics.bootstrap import NUMBERS, RESAMPLES, bootstrap
    from rexdet.report.statistics.calibration import calibration, choose_thresholds
    from rexdet.report.statistics.detection_errors import break_down
    from rexdet.report.tables import detection_text

    matched = match_once(truth, detections, arguments.type, arguments.detections)
    found: dict[str, tuple[str, Any]] = {}
    if arguments.thresholds is not None:
        thresholds = choose_thresholds(matched, arguments.thresholds)
        found["thresholds"] = (detection_text.thresholds_text(thresholds), thresholds.as_json())
    if arguments.calibration:
        scores = calibration(matched)
        found["calibration"] = (detection_text.calibration_text(scores), scores.as_json())
    if arguments.errors:
        errors = break_down(matched)
        found["errors"] = (detection_text.errors_text(errors), errors.as_json())
    if arguments.intervals:
        boot = bootstrap(matched, label="resampling")
        intervals = {key: boot.interval(key) for key in NUMBERS}
        found["intervals"] = (
            detection_text.intervals_text(intervals, RESAMPLES, boot.seed),
            {key: asdict(interval) for key, interval in intervals.items()},
        )
    return dict(reversed(found.items()))
