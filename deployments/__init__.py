"""The pull step of the deployments."""
