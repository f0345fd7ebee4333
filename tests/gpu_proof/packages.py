"""`python -m tests.gpu_proof.packages [3.12]`: the packages of the proof as one archive of at most 60 MiB.

They are those of requirements.txt, whose hashes are checked, for Linux on x86-64. Wheels are zips of a kind that is a
third larger, so their files are packed together. What no image with PyTorch lacks is left out, and files that the proof
never loads. The standard library alone, and `uv` to fetch them.
"""

import argparse
import fnmatch
import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ".gpu-wheels"
MOST_BYTES = 60 << 20
PACKAGES = (
    *("ultralytics", "ultralytics-thop", "opencv-python-headless", "onnx", "onnxruntime", "onnxslim", "ml-dtypes"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection", "psutil", "pyyaml"),
    *("requests", "urllib3", "certifi", "idna", "charset-normalizer", "nvidia-ml-py", "simplejpeg", "cloudpickle"),
    *("protobuf", "flatbuffers", "packaging", "wcwidth", "colorama", "chardet", "jinja2", "markupsafe"),
)
# Tests of ONNX, and ONNX Runtime for other languages.
UNUSED = ("bin/*", "onnx/backend/test/*", "onnxruntime/capi/libonnxruntime.so*", "*.pyc", ".lock")
# One with CUDA is worth more than the carried one, and the two have one name.
OF_THE_IMAGE = ("onnxruntime",)
_FILTERS = [
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20},
]


def archive_of(folder: Path, version: str = f"{sys.version_info[0]}.{sys.version_info[1]}") -> Path:
    """Return the path of the archive for a version of Python."""
    return folder / f"packages-py{version}.tar.xz"


def pinned(requirements: str, names: frozenset[str]) -> str:
    """Return the lines of `names`, with their hashes, from the text of a requirements.txt.

    Raises:
        LookupError: One of them is not pinned there.
    """
    blocks = re.split(r"\n(?=[a-z0-9])", requirements)
    found = {match[0]: block for block in blocks if (match := re.match(r"[a-z0-9._-]+(?===)", block))}
    if missing := sorted(names - found.keys()):
        raise LookupError(f"expected {', '.join(missing)} in requirements.txt, found no pin: run `make lock`")
    return "\n".join(found[name].rstrip() for name in sorted(names)) + "\n"


def pack(folder: Path, archive: Path) -> int:
    """Pack the files of a folder but for those of no use; returns the bytes of the archive.

    Raises:
        ValueError: They are more than may be carried.
    """
    unfinished = archive.with_suffix(".part")
    with lzma.open(unfinished, "wb", filters=_FILTERS) as file, tarfile.open(fileobj=file, mode="w") as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if any(fnmatch.fnmatch(name, pattern) for pattern in UNUSED):
                continue
            member = packed.gettarinfo(path, name)
            member.mtime, member.mode, member.uid, member.gid, member.uname, member.gname = 0, 0o644, 0, 0, "", ""
            with path.open("rb") as content:
                packed.addfile(member, content)
    size = unfinished.stat().st_size
    if size > MOST_BYTES:
        unfinished.unlink()
        raise ValueError(f"expected at most {MOST_BYTES >> 20} MiB, found {size / 2**20:.1f}: carry fewer packages")
    unfinished.rename(archive)
    return size


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a new folder, without what this image has of `OF_THE_IMAGE`."""
    there = tuple(name for name in OF_THE_IMAGE if find_spec(name) is not None)
    with tarfile.open(archive, "r:xz") as packed:
        members = [member for member in packed if not there or not member.name.startswith(there)]
        packed.extractall(folder, members, filter="data")


def build(folder: Path, version: str) -> Path:
    """Fetch the packages for a version of Python and pack them into `folder`."""
    folder.mkdir(exist_ok=True)
    archive = archive_of(folder, version)
    with tempfile.TemporaryDirectory(prefix="gpu-wheels-") as scratch:
        wanted, target = Path(scratch) / "requirements.txt", Path(scratch) / "packages"
        wanted.write_text(pinned((ROOT / "requirements.txt").read_text(encoding="utf-8"), frozenset(PACKAGES)))
        platform = ("--python-version", version, "--python-platform", "x86_64-manylinux_2_28")
        how = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "copy")
        where = ("--target", str(target), "--requirements", str(wanted))
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "pip", "install", *how, *platform, *where], check=True)
        size = pack(target, archive)
    print(f"{archive}: {size / 2**20:.1f} of at most {MOST_BYTES >> 20} MiB, {len(PACKAGES)} packages")
    return archive


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", default="3.11", choices=("3.11", "3.12"), help="Python of the image")
    build(ROOT / FOLDER, parser.parse_args().version)
