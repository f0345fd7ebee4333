"""Which images are worth a person's time: the rules by which they are chosen, and the report of a choice."""
