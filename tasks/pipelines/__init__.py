"""What run-pipeline is composed of: which archives it takes, the runs that it starts, and its page."""
