"""What goes wrong in an export."""

from tasks.errors import StudioError


class ExportError(StudioError):
    """These weights cannot become a served graph; the message says why and what to do."""
