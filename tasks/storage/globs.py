"""Names of objects with wildcards, as a shell has them; `*` matches `/`, too."""

import fnmatch
import re

_SIGNS = "*?["


def fixed_prefix(pattern: str) -> str | None:
    """Return the beginning of a pattern before its first wildcard; None if it has none."""
    first = min((pattern.index(sign) for sign in _SIGNS if sign in pattern), default=None)
    return None if first is None else pattern[:first]


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return what `match`es names: a pattern matches whole names, a folder without wildcards all that begin with it."""
    return re.compile(re.escape(pattern) if fixed_prefix(pattern) is None else fnmatch.translate(pattern))
