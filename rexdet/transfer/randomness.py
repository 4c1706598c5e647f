"""What another seed changes of a run, in words: a table that shows a spread has to say of what."""

from __future__ import annotations

from rexdet.runs import RunRecord
from rexdet.transfer.protocols import AnyProtocol, ProbeProtocol

# The code of the event by which a record tells it.
REPEATED = "repeated"
NOTHING = "another seed changes nothing"


def repeated_by_seed(protocol: AnyProtocol, *, has_checkpoint: bool, has_val: bool) -> str:
    """What a seed draws anew, in words; "" where nothing is random, so that a repetition would give the same number.

    has_checkpoint: the network does not begin with random weights. has_val: the set has images of its own to choose by.
    """
    if not isinstance(protocol, ProbeProtocol):
        begins = "the initial weights of the classifier" if has_checkpoint else "the initial weights"
        return f"the final run: {begins}, the order of the images and their augmentation"
    things = [] if has_checkpoint else ["the random weights"]
    if protocol.kind == "few_shot":
        things.append("which images of a class are the shots")
    elif not has_val and protocol.kind == "linear_probe":
        things.append("which images are held out to choose the penalty by")
    elif not has_val and protocol.kind == "knn" and len(protocol.neighbours) > 1:
        things.append("which images are held out to choose k by")
    return ", ".join(things)


def told_by(record: RunRecord) -> str | None:
    """What a record says that its seed changes; "" for nothing, None for a record that does not tell."""
    said = next((event.message for event in record.events if event.code == REPEATED), None)
    return "" if said == NOTHING else said
