"""What is kept of a sample of learnt images: under which key, and what a damaged file is worth."""

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.selection import known_sample
from tasks.selection.known_sample import KnownSample, find_sample, folder_of, sample_key

SAMPLE = KnownSample(embeddings=np.array([[0.5, 0.25], [1, 0]], np.float32), class_counts=np.array([1.5, 0, 3]))
IMAGE = MediaSource(
    name="a.zip/\udcff.jpg", bucket="datasets", key="a.zip", etag="1", size=9, kind=MediaKind.IMAGE, entry=3
)


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _find(monkeypatch: pytest.MonkeyPatch, data: bytes | None) -> KnownSample | None:
    monkeypatch.setattr(known_sample, "_RUNS", SimpleNamespace(get=lambda _: data))
    found: KnownSample | None = find_sample.fn("key", 3)
    return found


def test_a_sample_comes_back_as_it_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _find(monkeypatch, SAMPLE.pack())
    assert found is not None
    assert (found.embeddings == SAMPLE.embeddings).all()
    assert (found.class_counts == SAMPLE.class_counts).all()
    assert _find(monkeypatch, None) is None


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        SAMPLE.pack()[:-40],
        replace(SAMPLE, class_counts=np.zeros(2)).pack(),
        replace(SAMPLE, embeddings=np.full((2, 2), np.nan, np.float32)).pack(),
        replace(SAMPLE, embeddings=np.zeros((0, 2), np.float32)).pack(),
        _npz(embeddings=np.zeros((2, 2))),
        _npz(embeddings=np.array([[{}]], object), class_counts=np.zeros(3)),
        _npz(embeddings=np.array([["a"]]), class_counts=np.zeros(3)),
    ],
)
def test_a_damaged_file_counts_as_none(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    assert _find(monkeypatch, data) is None


def test_the_key_is_another_one_for_other_weights_or_images() -> None:
    keys = {
        sample_key(model, version, weights, sample)
        for model, version, weights, sample in (
            ("m", 1, "aa", [IMAGE]),
            ("m", 1, "aa", [IMAGE, IMAGE]),
            ("m", 1, "bb", [IMAGE]),
            ("m", 1, "aa", [replace(IMAGE, etag="2")]),
            ("m", 1, "aa", [replace(IMAGE, entry=4)]),
            ("m", 2, "aa", [IMAGE]),
            ("n", 1, "aa", [IMAGE]),
        )
    }
    assert len(keys) == 7
    assert sample_key("m", 1, "aa", [IMAGE]).startswith(folder_of("m", 1))
