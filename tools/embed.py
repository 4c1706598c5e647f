"""Thin entry of the verb; see rexdet/cli/embed.py."""

from rexdet.cli import main

if __name__ == "__main__":
    main("embed")
