"""Inputs of every kind, and zips that mean harm."""

from pathlib import Path

import numpy as np
import pytest

from tasks.core.media import (
    MediaError,
    Picture,
    archives,
    estimate,
    pictures,
)
from tasks.core.summary import Failure
from tests.core.media.samples import encoded, film, photo, zipped


def looked_at(media: list[tuple[str, Path]]) -> list[tuple[str, str]]:
    """Return (source, "ok" or why not) for all that comes out, loading every picture."""
    found = []
    for picture in pictures(media):
        try:
            outcome = picture.reason if isinstance(picture, Failure) else ("ok" if picture.load().size else "empty")
        except MediaError as error:
            outcome = str(error)
        found.append((picture.source, outcome))
    return found


def test_a_zip_gives_its_images_one_by_one(tmp_path: Path) -> None:
    png = encoded(photo())
    entries = {"inner/b.png": png, "a.png": png, "notes.txt": b"x", "__MACOSX/a.png": b"x", ".hidden.png": b"x"}
    path = zipped(tmp_path / "pack.zip", entries)
    assert looked_at([("s/pack.zip", path)]) == [("s/pack.zip/inner/b.png", "ok"), ("s/pack.zip/a.png", "ok")]
    assert estimate([("s/pack.zip", path)]) == 2


def test_hostile_entries_are_failures_beside_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRY_BYTES", 1_000_000)
    png = encoded(photo())
    entries = {
        "../../evil.png": png,
        "/abs.png": png,
        "a\\b.png": png,
        "clip.mp4": b"x",
        "huge.png": np.random.default_rng(0).bytes(1_000_001),
        "bomb.png": bytes(999_999),
        "broken.png": png[:50],
        "good.png": png,
    }
    outcomes = dict(looked_at([("z", zipped(tmp_path / "z.zip", entries))]))
    assert [source for source, outcome in outcomes.items() if outcome == "ok"] == ["z/good.png"]
    for name, reason in {
        "../../evil.png": "leads elsewhere",
        "/abs.png": "leads elsewhere",
        "a\\b.png": "leads elsewhere",
        "clip.mp4": "video inside a zip",
        "huge.png": "found 1,000,001",
        "bomb.png": "packing by at most",
        "broken.png": "found",
    }.items():
        assert reason in outcomes[f"z/{name}"]


def test_a_damaged_entry_stops_only_itself(tmp_path: Path) -> None:
    png = encoded(np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8))
    path = zipped(tmp_path / "z.zip", {"a.png": png, "b.png": png})
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    outcomes = looked_at([("z", path)])
    assert outcomes[0][1] != "ok"
    assert outcomes[1] == ("z/b.png", "ok")


@pytest.mark.parametrize(
    ("data", "reason"), [(b"PK\x03\x04junk", "damaged archive"), (None, "found none among its 1 entries")]
)
def test_a_zip_without_pictures_is_one_failure(tmp_path: Path, data: bytes | None, reason: str) -> None:
    path = zipped(tmp_path / "z.zip", {"notes.txt": b"x"})
    if data is not None:
        path.write_bytes(data)
    ((source, outcome),) = looked_at([("z.zip", path)])
    assert source == "z.zip"
    assert reason in outcome


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 1)
    path = zipped(tmp_path / "z.zip", {"a.png": b"x", "b.png": b"x"})
    assert "found 2; split the zip" in looked_at([("z.zip", path)])[0][1]


def test_pictures_come_in_order_from_every_kind_of_file(tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    png.write_bytes(encoded(photo()))
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    clip = film(tmp_path / "clip.mp4", [0, 40, 100])
    media = [("a", png), ("notes.txt", text), ("clip", clip), ("gone.png", tmp_path / "gone.png"), ("a", clip)]
    found = list(pictures(media))
    assert [picture.source for picture in found] == ["a", "notes.txt", "clip", "clip", "clip", "gone.png", "a"]
    moments = [picture.moment.frame for picture in found if isinstance(picture, Picture) and picture.moment]
    assert moments == [0, 1, 2]
    assert [picture.source for picture in found if isinstance(picture, Failure)] == ["notes.txt", "gone.png", "a"]
    assert isinstance(found[-1], Failure)
    assert "found it again" in found[-1].reason
    assert estimate(media) == 9
