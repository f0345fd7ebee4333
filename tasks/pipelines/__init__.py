"""What run-pipeline and close-loop are composed of: which archives it takes, the runs that it starts, and its page."""
