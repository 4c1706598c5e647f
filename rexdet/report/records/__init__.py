"""What the records of runs say: found, merged, sorted into rows and settings."""
