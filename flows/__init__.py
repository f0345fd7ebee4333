"""The flows, one per file."""
