"""What a deletion reads of the results that it removes; with real results: tests/flows/test_deletions.py."""

import pytest

from tasks.deletion.predictions import model_of


@pytest.mark.parametrize(
    ("summary", "model"),
    [
        (b'{"model_name": "shapes"}', "shapes"),
        (None, ""),
        (b"", ""),
        (b"{", ""),
        (b"\xff", ""),
        (b"[]", ""),
        (b"{}", ""),
        (b'{"model_name": 5}', ""),
        (b'{"model_name": "\\ud800"}', ""),
        (b"[" * 100_000, ""),
    ],
)
def test_damaged_results_can_be_deleted(summary: bytes | None, model: str) -> None:
    assert model_of(summary) == model
