"""New values for the passwords and keys of a stack that is up: `make rotate-keys`."""
