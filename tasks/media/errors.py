"""The one error of this package."""

from tasks.errors import StudioError


class MediaError(StudioError):
    """A file that is no readable image or video; the message says what was expected, found, and how to fix it."""
