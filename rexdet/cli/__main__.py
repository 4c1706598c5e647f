"""`python -m rexdet.cli VERB ...` is the `rexdet` console command."""

from rexdet.cli import console

if __name__ == "__main__":
    console()
