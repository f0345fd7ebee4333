"""Does the served model find what its weights find? The rules, and how the answer is shown."""
