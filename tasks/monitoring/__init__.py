"""Is a model still right on what it gets to see? Without labels: drift, and an estimate of its mAP."""
