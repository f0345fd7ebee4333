"""Reading the log files of the services: one shape for all of them, found by run, model, archive, request and time."""
