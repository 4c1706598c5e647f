"""`python -m rexdet.cli VERB ...` is the `rexdet` console command."""

from rexdet.cli import console

console()
