"""The command lines: one module a verb, the same verbs as `tools/` and as the `rexdet` console command.

A verb's module has `HELP` (one line), `add_arguments(parser)` and `run(arguments) -> exit status`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import pkgutil
import sys
import traceback
from typing import NoReturn

from rexdet.errors import UserError

# What a disk refuses although the program did nothing wrong, where the error names the file.
_OF_THE_DISK = {
    errno.EACCES: "may not be opened or written",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EEXIST: "is a file, and a folder is needed",
    errno.EFBIG: "a file would be larger than this disk takes",
    errno.EISDIR: "is a folder, and a file is needed",
    errno.ELOOP: "links lead in a circle here",
    errno.ENAMETOOLONG: "the name is longer than this disk takes",
    errno.ENOSPC: "no room is left on this disk",
    errno.ENOTDIR: "lies below a file, which is no folder",
    errno.EROFS: "this disk cannot be written to",
}
# These come when something is written, and then name no file.
_OF_WRITING = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, like every other mistake of the user's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, where=self.prog, fix="--help lists the options")


def verbs() -> list[str]:
    """The verbs there are, sorted; each is a module of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def build_parser(verb: str, program: str | None = None) -> argparse.ArgumentParser:
    """The parser of one verb. Raises ModuleNotFoundError for a verb that does not exist."""
    module = importlib.import_module(f"rexdet.cli.{verb}")
    parser = _Parser(prog=program or f"{verb}.py", description=module.HELP, allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def execute(verb: str, arguments: list[str], program: str | None = None) -> int:
    """Parse and run one verb; returns the exit status (0 done, 1 our fault, 2 the user's mistake, 130 interrupted)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file may hold bytes that are no letters: told as escapes, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parsed = build_parser(verb, program).parse_args(arguments)
        # As typed, for the verbs that start themselves again or record what they were asked for.
        parsed.command = list(arguments)
        return int(importlib.import_module(f"rexdet.cli.{verb}").run(parsed))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) went away: nothing is left to say, and nothing went wrong.
        sys.stderr.close()
        return 0
    except OSError as error:
        if (told := _told(error)) is None:
            traceback.print_exc()
            return 1
        print(f"error: {told}", file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def _told(error: OSError) -> UserError | None:
    """An error of the disk in one line; None for any other, which is a fault of ours."""
    what = _OF_THE_DISK.get(error.errno or 0)
    name = error.filename2 or error.filename
    if what is None or (name is None and error.errno not in _OF_WRITING):
        return None
    if isinstance(name, int):
        name = None
    return UserError(what, "" if name is None else os.fsdecode(name))


def main(verb: str) -> NoReturn:
    """Entry of `tools/<verb>.py`."""
    sys.exit(execute(verb, sys.argv[1:]))


def console() -> NoReturn:
    """Entry of the `rexdet` console command: `rexdet VERB ...`, hyphens and underscores alike."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: rexdet VERB ...\n")
        for verb in verbs():
            print(f"  {verb.replace('_', '-'):<18} {importlib.import_module(f'rexdet.cli.{verb}').HELP}")
        sys.exit(0 if arguments else 2)
    verb = arguments[0].replace("-", "_")
    if verb not in verbs():
        print(f"error: no verb {arguments[0]!r}; rexdet --help lists them", file=sys.stderr)
        sys.exit(2)
    sys.exit(execute(verb, arguments[1:], program=f"rexdet {arguments[0]}"))
