"""Compare two detection runs."""

from rexdet.cli import main

if __name__ == "__main__":
    main("compare")
