"""What a person has deleted: what forbids it, how it goes, and what is left of it."""
