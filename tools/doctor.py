"""What this machine has, what it lacks, and the one command that mends each gap."""

from rexdet.cli import main

if __name__ == "__main__":
    main("doctor")
