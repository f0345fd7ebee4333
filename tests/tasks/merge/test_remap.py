"""Labels under merged ids."""

import pytest

from tasks.merge.remap import remap_labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "0 0.1 0.2 0.3 0.4\n1\t0.5 0.5 0.1 0.1  \n\n2 0.10 +.2 3e-1 0.40",
            "2 0.1 0.2 0.3 0.4\n0 0.10 +.2 3e-1 0.40\n",
        ),
        ("00 1 1 1 1\r\n+2 1 1 1 1\r0 2 2 2 2", "2 1 1 1 1\n0 1 1 1 1\n2 2 2 2 2\n"),
        ("0 0.1\x0b0.2\x0c0.3\x1c0.4\u20280.5", "2 0.1 0.2 0.3 0.4 0.5\n"),
        ("1 1 1 1 1\n", ""),
        ("", ""),
    ],
)
def test_ids_change_and_numbers_stay(text: str, expected: str) -> None:
    assert remap_labels(text, (2, None, 0)) == expected
    assert len(expected.splitlines()) == expected.count("\n"), "Ultralytics reads lines this way"
