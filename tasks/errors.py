"""Errors that a person can act on."""

# The name of a state of type Failed that sends no message (deployments/notifications.yaml): event `model.refused` does.
VERSION_REFUSED = "Version refused"
# The name of a state of type Cancelled: a person said no, and nothing failed. The run keeps that answer for good.
REFUSED = "Refused"


class StudioError(Exception):
    """Base of every expected failure: a flow ends Failed with its message, and any other exception is a defect.

    The message says what was expected, what was found and how to fix it. If it is `transient`, a service did not
    answer, and the same call may succeed a little later. If it is `declined`, a person said no: the flow ends Refused.
    `failed_name` is the name of the state of type Failed.
    """

    transient = False
    declined = False
    failed_name = "Failed"


class ExportError(StudioError):
    """Weights cannot become a served graph."""


class Superseded(BaseException):
    """Another process has taken this flow run over; this one leaves everything as it is, and ends."""


class Cancelled(BaseException):
    """The flow run was cancelled and no worker ends its process, which cleans up and ends."""


class AwaitsAnswer(BaseException):
    """The flow run has asked a person; it lets go of what it holds, and is suspended."""


def expected_found_fix(expected: str, found: str, fix: str) -> str:
    """Return a message in the form of all findings: what was expected, what was found, how to fix it."""
    return f"Expected {expected}, found {found}. {fix}"


def safe_repr(value: object, limit: int = 80) -> str:
    """Return a value from outside on one line of at most `limit` characters, without control characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # An integer of thousands of digits and a list nested in itself a thousand times have no text.
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
