"""Thin entry of the verb; see rexdet/cli/inspect_weights.py."""

from rexdet.cli import main

if __name__ == "__main__":
    main("inspect_weights")
