"""Pre-training a backbone on plain text."""
