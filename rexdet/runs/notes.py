"""What the other processes of a run have to tell.

Among processes that train together only the first writes the record. Each of the others keeps a note beside it: the
events it met, and why it failed. The first process takes the notes over when the run ends; where it cannot, because it
was killed, the next reader of the record does.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, NonNegativeInt

from rexdet.files import write_text_atomically
from rexdet.runs.parts import Event, Failure, Part

# Further messages of one code are counted together, so that a faulty data set does not make the record unreadable.
MESSAGES_PER_CODE = 100
_PATTERN = ".note-of-process-*.json"


class Note(Part):
    """What one process tells."""

    rank: NonNegativeInt = Field(description="number of the process among those that train together")
    events: list[Event] = Field(default_factory=list, description="events it met")
    failure: Failure | None = Field(default=None, description="why it failed; null: it has not")


def write_note(folder: Path, note: Note) -> None:
    """Write the note of a process, whole or not at all."""
    write_text_atomically(folder / _PATTERN.replace("*", str(note.rank)), note.model_dump_json())


def read_notes(folder: Path) -> list[Note]:
    """The notes in a run folder; those that tell of a failure first, in the order in which they were written."""
    paths = sorted(folder.glob(_PATTERN), key=lambda path: path.stat().st_mtime_ns)
    notes = [Note.model_validate_json(path.read_text(encoding="utf-8")) for path in paths]
    return sorted(notes, key=lambda note: note.failure is None)


def remove_notes(folder: Path) -> None:
    """Remove the notes, once the record holds what they say or when a new start makes them void."""
    for path in folder.glob(_PATTERN):
        path.unlink(missing_ok=True)


def count_event(events: list[Event], new: Event) -> list[Event]:
    """`events` with one more: the same code and message are one entry, and so is what goes beyond the limit a code."""
    same_code = [event for event in events if event.code == new.code]
    known = next((event for event in same_code if event.message == new.message), None)
    message = new.message
    if known is None and len(same_code) >= MESSAGES_PER_CODE:
        message = f"further messages of this kind, beyond the first {MESSAGES_PER_CODE}"
        known = next((event for event in same_code if event.message == message), None)
    if known is None:
        return [*events, new.model_copy(update={"message": message})]
    known.count += new.count
    return events
