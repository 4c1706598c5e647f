"""Tables of many runs. `--help` lists the options."""

from rexdet.cli import main

if __name__ == "__main__":
    main("summarize")
