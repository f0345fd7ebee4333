"""Why a request is refused that the visitor's role may send."""

from tasks.errors import StudioError


class RequestRefusedError(StudioError):
    """The body says more than the role may, or is of another form; or what it is about is not there, or not known now.

    `status` is that of the answer.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        """Refuse a request with a message for people."""
        super().__init__(message)
        self.status = status
