"""Why a request is refused that the visitor's role may send."""

from tasks.errors import StudioError


class RequestRefusedError(StudioError):
    """The body says more than the role may, or is of another form."""
