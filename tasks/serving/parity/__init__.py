"""The gate that compares the served model with its weights, and its report."""
