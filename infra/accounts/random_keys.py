"""Keys that nobody can guess, of which only digests are kept: those of sessions, of tokens, and first passwords."""

import hashlib
import secrets

TOKEN_PREFIX = "studio_"  # noqa: S105 - by which scanners of repositories find one that was published


def new_key(prefix: str = "") -> str:
    """Return a key of 256 random bits, as 43 characters that are safe anywhere, behind the prefix."""
    return prefix + secrets.token_urlsafe(32)


def new_password() -> str:
    """Return a password of 128 random bits that can be read out and typed."""
    return "-".join(secrets.token_hex(4) for _ in range(4))


def digest(key: str) -> str:
    """Return what is kept of a key; it needs no slow hash, because a key is as random as one."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
