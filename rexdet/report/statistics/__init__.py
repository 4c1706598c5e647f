"""What a few runs, and a few images, can tell."""
