"""Two runs beside each other: what differs, and what that changes."""
