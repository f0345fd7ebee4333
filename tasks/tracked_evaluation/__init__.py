"""What evaluate-model and find-label-errors are composed of: versions and images, predictions, and what is left."""
