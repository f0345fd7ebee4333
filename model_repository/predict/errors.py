"""The errors that a client gets."""

from enum import StrEnum


class Reason(StrEnum):
    """The names of Triton's error codes."""

    BAD_REQUEST = "INVALID_ARG"
    NOT_FOUND = "NOT_FOUND"
    UNAVAILABLE = "UNAVAILABLE"


class PredictError(Exception):
    """The request has no response; the message says what was expected, what was found and how to fix it."""

    def __init__(self, message: str, reason: Reason = Reason.BAD_REQUEST) -> None:
        super().__init__(message)
        self.reason = reason
