"""Which names of classes a tool shows as they are."""

from collections.abc import Iterable
from unicodedata import category

from tasks.errors import StudioError, expected_found_fix, safe_repr

_NO_XML = frozenset("\ufffe\uffff")


class ClassNameError(StudioError):
    """A class that the tool cannot show."""


def require_showable(names: Iterable[str], longest: int | None = None) -> None:
    """Check that a tool which keeps names of at most `longest` characters, in XML, would change none of these.

    Raises:
        ClassNameError: It would.
    """
    for name in names:
        if longest is not None and len(name) > longest:
            _refuse(f"class names of at most {longest} characters", name)
        wrong = any(category(sign) in {"Cc", "Cs"} or sign in _NO_XML for sign in name)
        if not name.strip() or name != name.strip() or wrong:
            _refuse("class names without spaces around them and without control characters", name)


def _refuse(expected: str, name: str) -> None:
    fix = "Rename the class in the archives of the model, and train it again, or review in another tool."
    raise ClassNameError(expected_found_fix(expected, safe_repr(name), fix))
