"""Names that are safe wherever they stand."""

import pytest

from infra.accounts.errors import AccountError
from infra.accounts.names import OWNER, require_name, require_token_name

LIKE_ADA = "\u0430da"  # its first letter is Cyrillic
MORE_THAN_A_NAME = ["a b", "a:b", "a/b", "a,b", "a\n", "a\r\nX-Studio-Role: admin", "a\x00", LIKE_ADA]


@pytest.mark.parametrize("name", ["ada", "a", "ada.lovelace@example.org", "0x-b_c", "a" * 63])
def test_a_plain_name_is_taken(name: str) -> None:
    assert require_name(name) == name


@pytest.mark.parametrize("name", ["", "Ada", "a" * 64, "-a", ".a", OWNER, *MORE_THAN_A_NAME])
def test_what_would_be_more_than_a_name_elsewhere_is_refused(name: str) -> None:
    """A colon ends a name in HTTP Basic, a slash makes a folder of S3, and letters of another alphabet look alike."""
    with pytest.raises(AccountError, match="Expected a name"):
        require_name(name)


@pytest.mark.parametrize("name", ["", " laptop", "a\nb", "a/b", "a" * 64])
def test_a_token_has_a_name_of_one_line(name: str) -> None:
    assert require_token_name("My laptop 2") == "My laptop 2"
    with pytest.raises(AccountError, match="Expected a name"):
        require_token_name(name)
