"""Errors that a person can act on."""


class StudioError(Exception):
    """Base of every expected failure. The message says what was expected, what was found and how to fix it.

    A flow ends Failed with exactly this message; any other exception is a defect of ours.
    """


class Superseded(BaseException):
    """Another process has taken this flow run over; this one leaves everything as it is, and ends."""
