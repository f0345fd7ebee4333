"""MLflow: runs of all kinds, the model registry, champions and canaries."""
