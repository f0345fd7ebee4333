"""Passwords: what may be one, and the slow hash that is kept of it (scrypt, 32 MiB and 0.3 s each)."""

import hashlib
import hmac
import secrets
import threading
import unicodedata

from infra.accounts.errors import AccountError, TooManyAttemptsError
from tasks.errors import expected_found_fix

SHORTEST = 12
LONGEST = 256
_LOG_N, _R, _P = 15, 8, 3  # OWASP's least for 32 MiB
_MOST_MEMORY = 64 * 2**20  # bytes; OpenSSL's own limit is below what these take
_AT_ONCE = threading.BoundedSemaphore(2)  # hashes; others wait, so that a flood takes neither memory nor all cores
PATIENCE_S = 5.0


def require_password(text: str, name: str) -> str:
    """Return a password that an account of that name may have.

    Raises:
        AccountError: It is too short or too long, or holds the name.
    """
    if SHORTEST <= len(text) <= LONGEST and name not in text.lower():
        return text
    expected = f"a password of {SHORTEST} to {LONGEST} characters without the name of the account"
    found = f"{len(text)} characters" + (" with the name in them" if name in text.lower() else "")
    raise AccountError(
        expected_found_fix(expected, found, "Choose another: four words that nobody would put together.")
    )


def hash_password(password: str) -> str:
    """Return what is kept of a password: the parameters of scrypt, a salt of its own, and the hash."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_LOG_N}${_R}${_P}${salt.hex()}${_scrypt(password, salt, _LOG_N, _R, _P).hex()}"


def is_password(password: str, kept: str | None) -> bool:
    """Return whether a hash is of the password; without a hash it takes as long, and is not.

    Raises:
        TooManyAttemptsError: So many are compared now that this one had to wait too long.
    """
    _, log_n, r, p, salt, expected = (kept or _NOBODYS).split("$")
    found = _scrypt(password[: LONGEST + 1], bytes.fromhex(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(expected)) and kept is not None


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    if not _AT_ONCE.acquire(timeout=PATIENCE_S):
        raise TooManyAttemptsError(PATIENCE_S)
    try:
        # One letter with an accent can be written in two ways, and keyboards differ in it.
        text = unicodedata.normalize("NFC", password).encode("utf-8", "replace")
        return hashlib.scrypt(text, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)
    finally:
        _AT_ONCE.release()


_NOBODYS = f"scrypt${_LOG_N}${_R}${_P}${'00' * 16}${'00' * 32}"
