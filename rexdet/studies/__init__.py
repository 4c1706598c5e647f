"""The papers' own experiments at a size that a CPU can do."""
