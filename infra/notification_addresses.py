"""The addresses of `STUDIO_NOTIFY`: how they are told apart and checked, without a word of them in a log."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import apprise

from infra.command_errors import StackError

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# A comma may be part of an address, such as that between two receivers of a mail.
_BETWEEN = re.compile(rf"\s+|,+(?={_SCHEME})|,+\s+|,+$")


def parse_addresses(text: str) -> tuple[str, ...]:
    """Return the Apprise addresses in `text`, which white space or commas separate; they send plain text.

    Raises:
        StackError: One is no such address; the message names its place and its scheme, and not what may be secret.
    """
    addresses = tuple(filter(None, _BETWEEN.split(text)))
    for number, address in enumerate(addresses, 1):
        if not _is_valid(address):
            raise StackError(
                f"Expected Apprise addresses in STUDIO_NOTIFY, such as mailto://... or slack://..., found that number "
                f"{number} of {len(addresses)}, {_scheme(address)}, is none. Correct it (docs/automation.md has "
                "examples), or unset STUDIO_NOTIFY."
            )
    return tuple(map(_as_plain_text, addresses))


def _is_valid(address: str) -> bool:
    with _silent_apprise():
        return "://" in address and apprise.Apprise.instantiate(address) is not None


def _scheme(address: str) -> str:
    found = re.match(_SCHEME, address)
    return f"{found.group()}..." if found else "which has no scheme://"


def _as_plain_text(address: str) -> str:
    """Mail is HTML by default: a name with `<` in it would be a tag, and all lines one."""
    if re.search(r"[?&]format=", address):
        return address
    return f"{address}{'&' if '?' in address else '?'}format=text"


@contextmanager
def _silent_apprise() -> Iterator[None]:
    """Apprise writes an address that it does not understand into its log, whole."""
    log = logging.getLogger("apprise")
    was_disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_disabled
