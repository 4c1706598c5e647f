"""Look at a COCO data set before training on it."""

from rexdet.cli import main

if __name__ == "__main__":
    main("check_data")
