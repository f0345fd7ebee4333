"""Cursors: where a page of a list ended, as a text that only this list, with these filters, takes back."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.errors import StudioError, expected_found_fix, safe_repr

MAX_LIMIT = 500
MAX_CURSOR = 16_384  # a key has 1,024 bytes, a search at most as many


class CatalogueError(StudioError):
    """There is no such entry, or a list was asked for what it has not."""


@dataclass(frozen=True, kw_only=True)
class ListRequest:
    """A request for a page: of which list, with which filters, behind which cursor (empty: from the beginning)."""

    listing: str
    filters: Mapping[str, str]
    cursor: str
    limit: int

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            fix = f"Ask for at most {MAX_LIMIT}, and for more with the cursor of the page."
            raise CatalogueError(expected_found_fix(f"a limit from 1 to {MAX_LIMIT}", f"{self.limit}", fix))

    @property
    def position(self) -> tuple[str, ...]:
        """Where the page begins, as `cursor_behind` was told; empty at the beginning of the list.

        Raises:
            CatalogueError: The cursor is of another list or has other filters, or is none.
        """
        if not self.cursor:
            return ()
        try:
            padded = self.cursor[:MAX_CURSOR] + "=" * (-len(self.cursor) % 4)
            listing, filters, position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            known = isinstance(listing, str) and isinstance(filters, dict) and isinstance(position, list)
            "".join(position).encode()  # JSON escapes can say what is no Unicode text
        except (ValueError, TypeError, RecursionError):
            known = False
        if not known:
            raise self._refusal(safe_repr(self.cursor))
        if (listing, filters) != (self.listing, self._chosen):
            raise self._refusal(f"one of {safe_repr(listing)}{_filter_words(filters)}")
        return tuple(position)

    def cursor_behind(self, *position: str) -> str:
        """Return the cursor of the page behind an entry of this list."""
        text = json.dumps([self.listing, self._chosen, position], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @property
    def _chosen(self) -> dict[str, str]:
        return {name: value for name, value in self.filters.items() if value}

    def _refusal(self, found: str) -> CatalogueError:
        expected = f"a cursor of {self.listing}{_filter_words(self._chosen)}"
        return CatalogueError(expected_found_fix(expected, found, "Begin again without a cursor."))


def _filter_words(filters: Mapping[str, object]) -> str:
    words = " and ".join(f"{safe_repr(name)} {safe_repr(value)}" for name, value in filters.items())
    return f" with {words}" if words else ""
