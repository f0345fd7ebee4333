"""Builders of small archives: each test says only what differs from a good one."""

import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from tasks.dataset.findings import Report
from tasks.parameters import ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset

YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"
BOX = "0 0.5 0.5 0.25 0.25\n"
Content = str | bytes | None
# Rules about a dataset as a whole, which the smallest archives break; test_codes.py has a table of its own for them.
QUIET = (
    *("class-unused", "class-few", "class-imbalance", "class-split"),
    *("image-quality", "image-duplicate", "image-near-duplicate"),
)


def policy(**limits: float) -> ValidationPolicy:
    return ValidationPolicy.model_validate({"ignore": QUIET, **limits})


@functools.cache
def image(ending: str = ".jpg", width: int = 24, height: int = 16, seed: int = 0) -> bytes:
    """Encode noise, so that every pixel counts in the file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(ending, pixels)[1].tobytes()


def good(**changes: Content) -> dict[str, Content]:
    """The smallest valid detection dataset; `changes` replace data.yaml (`yaml=`) or a label (`label=`)."""
    return {
        "data.yaml": changes.get("yaml", YAML),
        "images/train/a.jpg": image(),
        "labels/train/a.txt": changes.get("label", BOX),
        "images/val/b.jpg": image(seed=1),
        "labels/val/b.txt": "1 0.5 0.5 0.5 0.5\n",
    }


def zipped(entries: Mapping[str, Content], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Zip the entries; those that are None are left out, names that end in a slash are folders."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries.items():
            if content is not None:
                file.writestr(name, content)
    return buffer.getvalue()


def check(tmp_path: Path, archive: bytes | Mapping[str, Content], **limits: float) -> Report:
    """Write the archive and check it."""
    path = tmp_path / "data.zip"
    path.write_bytes(archive if isinstance(archive, bytes) else zipped(archive))
    return inspect_dataset(path, "data.zip", "0" * 64, policy(**limits)).report


def codes(report: Report) -> dict[str, str]:
    """Return the severity of every code found."""
    return {finding.code: finding.severity.value for finding in report.findings}


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header claims any size and whose pixels are not there."""
    good_png = image(".png")
    header = b"IHDR" + struct.pack(">II", width, height) + good_png[24:29]
    checksum = struct.pack(">I", zlib.crc32(header))
    return good_png[:12] + header + checksum + good_png[33:]
