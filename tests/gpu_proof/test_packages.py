"""The carried packages: what is packed and what is not. Small folders in place of the real ones, which take minutes."""

import os
import tarfile
from pathlib import Path

import pytest

from tests.gpu_proof import packages
from tests.paths import ROOT


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Installed packages, some files of which nothing loads."""
    made = tmp_path / "made"
    for name in (
        *("cv2/__init__.py", "bin/tool", "onnx/helper.py", "onnx/backend/test/data/a.pb"),
        *("onnxruntime/capi/state.so", "onnxruntime/capi/libonnxruntime.so.1"),
    ):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(name.encode())
    return made


def test_every_carried_package_is_pinned_with_its_hashes() -> None:
    chosen = packages.pinned((ROOT / "requirements.txt").read_text(), frozenset(packages.PACKAGES))
    assert chosen.count("==") == len(packages.PACKAGES)
    assert chosen.count("--hash=sha256:") >= len(packages.PACKAGES)
    assert "\ntorch" not in chosen


def test_a_package_that_is_not_pinned_is_named() -> None:
    with pytest.raises(LookupError, match="expected nothing-like-it in requirements"):
        packages.pinned("numpy==2 \\\n    --hash=sha256:00\n", frozenset({"numpy", "nothing-like-it"}))


def test_what_nothing_loads_is_left_out(folder: Path, tmp_path: Path) -> None:
    packages.pack(folder, tmp_path / "a.tar.xz")
    packages.unpack(tmp_path / "a.tar.xz", tmp_path / "unpacked")
    # This environment has an ONNX Runtime, as an image may have one with CUDA, and the carried one stays away.
    assert files(tmp_path / "unpacked") == {"cv2/__init__.py", "onnx/helper.py"}
    with tarfile.open(tmp_path / "a.tar.xz") as packed:
        assert "onnxruntime/capi/state.so" in packed.getnames()


def test_the_same_files_give_the_same_archive(folder: Path, tmp_path: Path) -> None:
    packages.pack(folder, tmp_path / "a.tar.xz")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    packages.pack(folder, tmp_path / "b.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()


def test_more_than_may_be_carried_leaves_no_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="expected at most 0 MiB"):
        packages.pack(folder, tmp_path / "a.tar.xz")
    assert files(tmp_path) - {f"made/{name}" for name in files(folder)} == set()
