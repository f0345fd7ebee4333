"""What a run of inference found, and the files that say so."""
