"""What a whole detector costs, neck and heads included: counted alike whichever engine it is of."""

from __future__ import annotations

from torch import nn

from rexdet.nets.complexity import count, count_parameters
from rexdet.runs.parts import DetectorComplexity
from rexdet.session.say import say

# The size at which the ReXNet paper's Tables 7 and 9 and MMDetection's own tool count, and the papers' proposals.
HEIGHT, WIDTH = 800, 1280
PROPOSALS = 1000


def detector_complexity(detector: nn.Module, passes: nn.Module | None, channels: int = 3) -> DetectorComplexity:
    """Parameters of `detector`, and the multiply-accumulates of one picture of 1280 x 800.

    passes: (1, channels, H, W) -> anything: what the detector multiplies for its boxes; it is run on a copy without
        data. None where nobody knows how to run it apart from its losses: the multiply-accumulates are not counted.

    A detector whose operators cannot run without data has none either; the reason is said.
    """
    part = DetectorComplexity(parameters=count_parameters(detector), height=HEIGHT, width=WIDTH)
    if passes is None:
        return part
    try:
        part.macs = count(passes, (1, channels, HEIGHT, WIDTH)).macs
    except (NotImplementedError, RuntimeError, TypeError) as error:
        # What somebody else's operators answer where there is no data. A figure beside the run is not worth the run.
        say(f"the detector's multiply-accumulates are not counted: {str(error).splitlines()[0]}")
    return part
