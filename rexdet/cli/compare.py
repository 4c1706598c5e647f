"""Two detection runs beside each other: what differs, by how much, how sure, and on which images."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from rexdet.errors import UserError

HELP = "compare two detection runs: what differs, paired AP with intervals, classes, errors, images won and lost"
FOLDER = Path("output") / "compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `tools/compare.py`."""
    parser.add_argument("one", metavar="A", help="a run's folder, its record, or a folder of runs")
    parser.add_argument("other", metavar="B", help="another; differences are B minus A")
    parser.add_argument("--type", choices=("bbox", "segm"), default="bbox", help="score boxes or masks (default bbox)")
    parser.add_argument("--annotations", metavar="J", help="validation annotations, where the records' path is gone")
    parser.add_argument("--images", metavar="D", help="folder of their pictures, likewise")
    parser.add_argument(
        "--intersect", action="store_true", help="runs on different data: compare on images that both annotate alike"
    )
    parser.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the images (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the resamples (default: 0)")
    parser.add_argument("--whole", action="store_true", help="every field that differs and every class")
    parser.add_argument("--output", metavar="D", help=f"folder of the contact sheets (default: {FOLDER}/A_B)")
    parser.add_argument(
        "--pictures",
        type=int,
        default=12,
        metavar="N",
        help="images drawn of those won and lost (default: 12)",
    )
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, metavar="S", help="least score that is drawn (default: 0.3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, 0 to 1, null where there is nothing")


def run(arguments: argparse.Namespace) -> int:
    """Compare, draw, print."""
    from rexdet.report.comparison.compared_runs import open_runs
    from rexdet.report.comparison.paired import compare
    from rexdet.report.comparison.pictures import MOST_PICTURES, write_sheets
    from rexdet.report.comparison.seed_runs import compare_seeds, holds_several, open_first_pair
    from rexdet.report.comparison.text import comparison_text
    from rexdet.report.tables.targets import check_folder, named_folder
    from rexdet.runs.begin import make_folder

    if not 0 <= arguments.pictures <= MOST_PICTURES:
        raise UserError(f"--pictures {arguments.pictures}", fix=f"give 0 to {MOST_PICTURES}")
    if not 0.0 <= arguments.score_threshold <= 1.0:
        raise UserError(f"--score-threshold {arguments.score_threshold:g}", fix="give a number between 0 and 1")
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}", fix="give a number of at least 0")
    own = named_folder(arguments.output, "--output") if arguments.output is not None else None
    one, other, seeds = arguments.one, arguments.other, None
    where = {name: getattr(arguments, name) for name in ("annotations", "images", "intersect")}
    if holds_several(one) or holds_several(other):
        compared, seeds = open_first_pair(compare_seeds(one, other, arguments.type), **where)
    else:
        compared = open_runs(one, other, **where)
    folder = own or FOLDER / f"{_name(arguments.one)}_{_name(arguments.other)}"
    if arguments.pictures:
        # Asked for before the minute of resampling, not after it.
        check_folder(folder, "--output")
        make_folder(folder)
    comparison = compare(
        compared, arguments.type, resamples=arguments.resamples, seed=arguments.seed, progress=True, seeds=seeds
    )
    pictures = write_sheets(
        compared, comparison, folder, most=arguments.pictures, score_threshold=arguments.score_threshold
    )
    if arguments.json:
        print(json.dumps(comparison.as_json(pictures), indent=2, allow_nan=False))
    else:
        print(comparison_text(comparison, pictures, whole=arguments.whole))
    return 0


def _name(path: str) -> str:
    """A run's folder as part of a name."""
    resolved = Path(path).resolve()
    folder = resolved.parent if resolved.suffix == ".json" else resolved
    return re.sub(r"[^\w.-]+", "_", folder.name) or "run"
