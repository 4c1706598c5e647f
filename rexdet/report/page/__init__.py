"""The page: every table with charts and pictures, in one file."""
