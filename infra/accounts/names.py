"""Names of accounts and of tokens: safe in a header, a tag, a line of a log and a key of S3, and before a colon."""

import re

from infra.accounts.errors import AccountError
from tasks.errors import expected_found_fix, safe_repr

OWNER = "studio"  # whoever has this machine's password: in the audit log, and so no account
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")
_TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}")


def is_name(text: str) -> bool:
    """Return whether an account may have this name."""
    return _NAME.fullmatch(text) is not None and text != OWNER


def require_name(text: str) -> str:
    """Return the name of an account.

    Raises:
        AccountError: An account may not have it.
    """
    if is_name(text):
        return text
    raise AccountError(
        expected_found_fix(
            f"a name of 1 to 63 of a-z 0-9 . _ @ -, the first a letter or a digit, and not {OWNER}",
            safe_repr(text),
            "Choose another.",
        )
    )


def require_token_name(text: str) -> str:
    """Return the name of a token.

    Raises:
        AccountError: A token may not have it.
    """
    if _TOKEN_NAME.fullmatch(text):
        return text
    raise AccountError(
        expected_found_fix(
            "a name of 1 to 63 letters, digits, blanks or . _ @ -, the first a letter or a digit",
            safe_repr(text),
            "Name the token after what uses it, such as laptop.",
        )
    )
