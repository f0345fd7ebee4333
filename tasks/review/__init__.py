"""Images in which people keep, refuse or correct what a model suggests."""
