"""Thin entry of the verb; see rexdet/cli/eval_imagenet.py."""

from rexdet.cli import main

if __name__ == "__main__":
    main("eval_imagenet")
