"""Which archives are new or have changed, and the checks of them that are started."""
