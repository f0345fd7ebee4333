"""The error of a version that must not serve clients."""

from tasks.errors import VERSION_REFUSED, StudioError


class VersionRefusedError(StudioError):
    """A version that does not become champion; `refused_by` is `loading`, `parity`, `canary` or `approval`."""

    failed_name = VERSION_REFUSED

    def __init__(self, refused_by: str, message: str) -> None:
        """Refuse the version by a gate, with a message for people."""
        super().__init__(message)
        self.refused_by = refused_by
