"""Whether a moment of a backup can be true."""

from datetime import UTC, datetime, timedelta

_TOLERANCE = timedelta(minutes=5)  # between the clocks of two machines


def is_to_come(moment: datetime) -> bool:
    """Return whether a moment, which has a zone, lies in the future: nothing was taken then."""
    return moment > datetime.now(UTC) + _TOLERANCE
