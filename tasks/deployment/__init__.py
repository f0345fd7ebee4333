"""What the flows that change a served model share: they bring registry, object store and Triton together."""
