"""The object store: connection, objects, and the checkpoints of a training."""
