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


def expected_found_fix(expected: str, found: str, fix: str) -> str:
    """Return a message in the one form that all findings have: what was expected, what was found, how to fix it."""
    return f"Expected {expected}, found {found}. {fix}"


def safe_repr(value: object, limit: int = 80) -> str:
    """Return a value from outside on one line, at most `limit` characters long, with nothing a terminal would obey."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # An integer of thousands of digits and a list nested in itself a thousand times have no text.
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
