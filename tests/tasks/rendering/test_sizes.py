"""Sizes in words."""

import pytest

from tasks.rendering.sizes import format_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (3_400_000, "3.4 MB"), (10**15, "1000.0 TB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text
