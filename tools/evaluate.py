"""Score a file of detections against an annotation file."""

from rexdet.cli import main

if __name__ == "__main__":
    main("evaluate")
