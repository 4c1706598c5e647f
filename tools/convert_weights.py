"""Thin entry of the verb; see rexdet/cli/convert_weights.py."""

from rexdet.cli import main

if __name__ == "__main__":
    main("convert_weights")
