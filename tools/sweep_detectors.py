"""Thin entry of the verb; see rexdet/cli/sweep_detectors.py."""

from rexdet.cli import main

if __name__ == "__main__":
    main("sweep_detectors")
