"""How what a person does with the local stack fails."""

from tasks.errors import StudioError


class StackError(StudioError):
    """The local stack, or a file of this disk, is not as it has to be; the message says what to do."""
