"""Errors that a person can act on."""


class StudioError(Exception):
    """Base of every expected failure. The message says what was expected, what was found and how to fix it.

    A flow ends Failed with exactly this message; any other exception is a defect of ours. One that is `transient` may
    not come again a little later: a service did not answer, rather than refuse.
    """

    transient = False


class Superseded(BaseException):
    """Another process has taken this flow run over; this one leaves everything as it is, and ends."""


class Cancelled(BaseException):
    """The flow run was cancelled and its process not told: it puts away what it has, and ends."""
