"""The tables, and the files that they are written to."""
