"""The one error type that is meant for the person at the keyboard."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user's, told in one line: what is wrong, where, and what to do about it.

    Command lines print it on standard error without a traceback and exit with status 2.

    what: what is wrong, a clause without a full stop.
    where: the file, key or entry that is meant; empty when `what` already says so.
    fix: what to do, in the imperative; empty when there is nothing to be done.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.fix:
            text = f"{text}; {self.fix}"
        return " ".join(text.split())
