"""The two engines beside each other: what each does to the same picture, and what the difference costs."""
