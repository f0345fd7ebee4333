"""Tickets: parts of addresses that open the files of one folder, without the password, for some hours.

A page in a sandbox cannot send the password: a browser does not give it to an origin that it does not know.
"""

import hmac
import time

OPENED = "/opened/"  # the beginning of addresses with a ticket
VALID_S = 12 * 3600


def issue_ticket(password: str, folder: str) -> str:
    """Return a ticket for the files of a folder; it ends with its time, or with the password."""
    until = f"{time.time() + VALID_S:.0f}"
    return f"{until}-{_signature(password, folder, until)}"


def is_valid(ticket: str, password: str, folder: str, now: float) -> bool:
    """Return whether a ticket opens the files of a folder at a time (seconds since 1970)."""
    until, _, signature = ticket.partition("-")
    is_ours = hmac.compare_digest(signature.encode(), _signature(password, folder, until).encode())
    return is_ours and now <= float(until)


def _signature(password: str, folder: str, until: str) -> str:
    return hmac.new(password.encode(), f"ticket {until} {folder}".encode(), "sha256").hexdigest()
