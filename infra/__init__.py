"""The local stack, the demo and the other commands of make."""
