"""One input of any kind, picture by picture."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from tasks.inference import frames
from tasks.inference.frames import MediaFrame, iter_frames
from tasks.inference.results.summary import Failure
from tasks.media.errors import MediaError
from tasks.media.images import peak_decode_bytes_of
from tests.tasks.media.samples import encoded, film, photo, zipped

PNG = encoded(photo())


def kept(path: Path, *, as_file: bool) -> bytes | Path:
    return path if as_file else path.read_bytes()


@pytest.mark.parametrize("as_file", [True, False])
def test_an_image_is_one_picture(tmp_path: Path, *, as_file: bool) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    (picture,) = iter_frames("s3/a.png", kept(path, as_file=as_file), 7, tmp_path / "scratch")
    assert isinstance(picture, MediaFrame)
    assert (picture.source, picture.position) == ("s3/a.png", None)
    assert picture.memory == peak_decode_bytes_of(PNG) + as_file * len(PNG)
    np.testing.assert_array_equal(picture.load(), photo())


@pytest.mark.parametrize("as_file", [True, False])
def test_a_video_is_a_picture_a_frame_in_turn(tmp_path: Path, *, as_file: bool) -> None:
    path, scratch = film(tmp_path / "clip.mp4", [0, 40, 100, 250, 300]), tmp_path / "scratch"
    pictures = iter_frames("clip", kept(path, as_file=as_file), 2, scratch)
    first = next(pictures)
    assert as_file or len(list(scratch.iterdir())) == 1
    found = [first, *pictures]
    moments = [picture.position for picture in found if isinstance(picture, MediaFrame) and picture.position]
    assert [moment.frame for moment in moments] == [0, 2, 4]
    assert [moment.timestamp_ms for moment in moments] == pytest.approx([0, 100, 300], abs=0.02)
    for picture in found:
        assert isinstance(picture, MediaFrame)
        assert picture.load().shape == (48, 64, 3)
        assert picture.load().size * 3 // 2 <= picture.memory < 200_000
    assert not scratch.exists() or not list(scratch.iterdir())


def test_a_video_that_nobody_reads_on_leaves_no_file(tmp_path: Path) -> None:
    pictures = iter_frames("clip", film(tmp_path / "clip.mp4", [0, 40]).read_bytes(), 1, tmp_path / "scratch")
    picture = next(pictures)
    pictures.close()  # type: ignore[attr-defined]
    assert not list((tmp_path / "scratch").iterdir())
    assert isinstance(picture, MediaFrame)
    assert picture.load().shape == (48, 64, 3)


def test_damage_is_a_failure_behind_the_frames(tmp_path: Path) -> None:
    data = film(tmp_path / "clip.mp4", [index * 40 for index in range(60)]).read_bytes()
    *shown, failure = iter_frames("clip", data[: len(data) * 6 // 10], 1, tmp_path)
    assert isinstance(failure, Failure)
    assert f"cut off after {len(shown)} readable frames" in failure.reason
    assert len(shown) > 5
    assert all(isinstance(frame, MediaFrame) for frame in shown)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("notes.txt", b"hello", "found another kind of file; remove it"),
        ("none", b"", "found an empty file"),
        ("broken.jpg", b"\xff\xd8\xff", "no header of a known picture format"),
        ("broken.mp4", b"junk" * 99, "expected a whole video"),
        ("photo.heic", b"\0\0\0\x18ftypheic" + bytes(20), "found a HEIC photo; save it as JPEG"),
    ],
)
def test_what_is_neither_is_one_failure(tmp_path: Path, name: str, data: bytes, reason: str, *, as_file: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    (failure,) = iter_frames(name, kept(path, as_file=as_file), 1, tmp_path)
    assert isinstance(failure, Failure)
    assert failure.source == name
    assert reason in failure.reason


def test_a_zip_inside_is_a_failure(tmp_path: Path) -> None:
    (failure,) = iter_frames("a.zip", zipped(tmp_path / "a.zip", {"a.png": PNG}), 1, tmp_path)
    assert isinstance(failure, Failure)
    assert "found a zip inside" in failure.reason


def test_a_missing_file_is_a_failure(tmp_path: Path) -> None:
    (failure,) = iter_frames("gone.png", tmp_path / "gone.png", 1, tmp_path)
    assert failure == Failure(
        source="gone.png", reason="expected a readable file, found No such file or directory; upload it again"
    )


def test_an_image_cut_off_behind_its_header_fails_when_it_is_loaded(tmp_path: Path) -> None:
    (picture,) = iter_frames("a.png", PNG[:60], 1, tmp_path)
    assert isinstance(picture, MediaFrame)
    with pytest.raises(MediaError, match="expected a whole JPEG"):
        picture.load()


@pytest.mark.parametrize(
    "error",
    [OverflowError("x"), ValueError("x"), KeyError("x"), TypeError("x"), struct.error("x"), av.UndefinedError(1, "x")],
)
def test_whatever_a_reader_stumbles_over_is_a_failure_of_that_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def stumble(*_: object) -> None:
        raise error

    monkeypatch.setattr(frames, "decode_frames", stumble)
    (failure,) = iter_frames("clip.mp4", film(tmp_path / "clip.mp4", [0, 40]), 1, tmp_path)
    assert isinstance(failure, Failure)
    assert "found values in it that no encoder writes" in failure.reason
