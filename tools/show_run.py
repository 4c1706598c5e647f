"""Print the record of a run."""

from rexdet.cli import main

if __name__ == "__main__":
    main("show_run")
