"""Decoded images of a training, in the folder of its run: after the first epoch they are read, not decoded again.

A file holds what Ultralytics makes of an image, its pixels at the size of the training, byte for byte. So a training
that keeps images is the same one, whatever `training.cache` says; Ultralytics' own `cache=ram` is another training, as
its mosaics are of other images. The kernel has such files in its memory for as long as nobody else needs it.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from ultralytics.utils.patches import imread

from tasks.merge.written_files import list_images
from tasks.rendering.sizes import format_bytes
from tasks.training.job import TrainingJob
from tasks.vision.geometry import Rgb

SAVED_MS = 1.0  # of the 8 that all else of an image takes at 640 pixels, with mosaic: less is not worth the writing
LEAST_EPOCHS = 3
RESERVE = 1 << 30  # bytes of a disk that stay free
_TRIED = 8
_HEADER = 5  # numbers: height and width of the image, shape of what is kept
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
Loaded = tuple[Any, tuple[int, int], tuple[int, int]]  # as Ultralytics' load_image


@dataclass(frozen=True, kw_only=True)
class ImageCost:
    """What an image costs on average: `bytes` decoded, ms of a processor to `decode` it or to `read` it decoded."""

    bytes: int
    decode: float
    read: float


@dataclass(frozen=True)
class CacheChoice:
    """Whether images are kept decoded, and `why`, as a sentence for the log."""

    is_kept: bool
    why: str


def choose_cache(job: TrainingJob) -> CacheChoice:
    """Return whether the images of a training are kept decoded, as its `cache` says: `auto`, `disk` or `none`."""
    if job.cache == "none":
        return CacheChoice(False, "images are decoded in each epoch, as it says none")
    if job.task == "classify":
        return CacheChoice(False, "images are decoded in each epoch: those of a classification are not kept")
    images = [image for split in ("train", "val") for image in list_images(job.data, job.task, split)]
    cost = measure(images, int(job.arguments["imgsz"]), job.folder)
    if cost is None:  # Ultralytics says which they are
        return CacheChoice(False, "no image can be decoded")
    free = shutil.disk_usage(job.folder).free
    return decide(job.cache, cost, len(images), int(job.arguments["epochs"]), (available_memory(), free))


def decide(cache: str, cost: ImageCost, images: int, epochs: int, room: tuple[int, int]) -> CacheChoice:
    """Return whether so many images are kept in so many epochs; `room` are the free bytes of memory and of the disk."""
    size, saved = images * cost.bytes, cost.decode - cost.read
    memory, disk = room
    figures = (
        f"decoding one takes {cost.decode:.1f} ms, reading it decoded {cost.read:.1f} ms; all {images} of them take "
        f"{format_bytes(size)}"
    )
    against = ""
    if size > (disk - RESERVE) // 2:
        against = f"the disk has {format_bytes(disk)} left, and half of it stays free"
    elif cache == "auto" and epochs < LEAST_EPOCHS:
        against = f"there are fewer than {LEAST_EPOCHS} epochs"
    elif cache == "auto" and saved < SAVED_MS:
        against = f"less than {SAVED_MS:g} ms would be saved"
    elif cache == "auto" and size > memory // 2:
        against = f"of memory {format_bytes(memory)} is left, and from a disk they would come more slowly"
    if against:
        return CacheChoice(False, f"images are decoded in each epoch, as {against} ({figures})")
    return CacheChoice(True, f"images are kept decoded ({figures})")


def measure(images: Sequence[Path], size: int, folder: Path) -> ImageCost | None:
    """Return what an image costs at `size` pixels, tried on a few of them; None if none of these can be decoded.

    `folder` takes a file for a moment.
    """
    trial = folder / ".trial"
    tried = images[:: -(-len(images) // _TRIED) or 1]
    for image in tried[:1]:
        _decode(image, size)  # the first one takes longer
    costs = []
    for image in tried:
        began = time.thread_time()
        decoded = _decode(image, size)
        decoding = time.thread_time() - began
        if decoded is None:
            continue
        write_decoded(trial, *decoded)
        began = time.thread_time()
        read_decoded(trial)
        costs.append((decoded[0].nbytes, decoding * 1000, (time.thread_time() - began) * 1000))
    trial.unlink(missing_ok=True)
    if not costs:
        return None
    size_of, decode, read = np.mean(costs, axis=0).tolist()
    return ImageCost(bytes=int(size_of), decode=decode, read=read)


def _decode(path: Path, size: int) -> tuple[Rgb, tuple[int, int]] | None:
    image = imread(str(path))
    if image is None:
        return None
    height, width = image.shape[:2]
    ratio = size / max(height, width)
    resized = cv2.resize(image, (max(1, round(width * ratio)), max(1, round(height * ratio)))) if ratio != 1 else image
    return np.asarray(resized, np.uint8), (height, width)


def available_memory() -> int:
    """Return the bytes of memory that are left, of the machine and of this container."""
    left: int = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # there is no limit, or not in this version of cgroups
            left = min(left, int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(left, 0)


def cache_images(model: Any, trainer: type[Any] | None) -> type[Any]:  # noqa: ANN401 - ultralytics ships no types
    """Return a trainer of a `YOLO` object that keeps decoded images, else as `trainer` (None: Ultralytics' own)."""
    own = trainer or model.task_map[model.task]["trainer"]
    return type("CachingTrainer", (_CachingTrainer, own), {})


def read_cached_images(model: Any, validator: type[Any] | None) -> type[Any]:  # noqa: ANN401
    """Return a validator that reads what a training has kept, else as `validator` (None: Ultralytics' own)."""
    own = validator or model.task_map[model.task]["validator"]
    return type("CachedValidator", (_CachedValidator, own), {})


class _CachingTrainer:
    """What a trainer does otherwise; it is put before one of Ultralytics."""

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:  # noqa: ANN401
        dataset = super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        keep_decoded(dataset, is_kept=True)
        return dataset


class _CachedValidator:
    """What a validator does otherwise; it is put before one of Ultralytics."""

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> Any:  # noqa: ANN401
        dataset = super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        keep_decoded(dataset, is_kept=False)
        return dataset


def keep_decoded(dataset: Any, *, is_kept: bool) -> None:  # noqa: ANN401
    """Have a dataset of Ultralytics read decoded images, and keep those that are missing if `is_kept`."""
    dataset.decoded = [decoded_path(Path(file), dataset.imgsz) for file in dataset.im_files]
    dataset.is_kept = is_kept
    dataset.__class__ = _decoded(type(dataset))


def decoded_path(image: Path, size: int) -> Path:
    """Return where an image of a merge, or a link to it, is kept at this size: in the folder of the merge."""
    image = image.resolve()
    return image.parents[2] / f"decoded-{size}" / image.parent.name / f"{image.name}.bgr"


def _decoded(base: type[Any]) -> type[Any]:
    """`decoded` holds the file of each image, `is_kept` says whether one is written."""

    class DecodedImages(base):  # type: ignore[misc]
        is_kept: bool

        def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> Loaded:
            if self.ims[i] is not None or not rect_mode or resize_short:  # in memory, or of another shape
                return super().load_image(i, rect_mode, resize_short)  # type: ignore[no-any-return]
            kept = read_decoded(self.decoded[i])
            if kept is None:
                loaded: Loaded = super().load_image(i, rect_mode, resize_short)
                self.is_kept = self.is_kept and write_decoded(self.decoded[i], loaded[0], loaded[1])
                return loaded
            image, original = kept
            if self.augment:
                self._buffer(i, image, original)
            return image, original, image.shape[:2]

        def _buffer(self, i: int, image: Rgb, original: tuple[int, int]) -> None:
            """Offer an image to mosaics, and forget another one, as Ultralytics does with one that it has decoded."""
            self.ims[i], self.im_hw0[i], self.im_hw[i] = image, original, image.shape[:2]
            self.buffer.append(i)
            if 1 < len(self.buffer) >= self.max_buffer_length:
                oldest = self.buffer.pop(0)
                self.ims[oldest] = self.im_hw0[oldest] = self.im_hw[oldest] = None

    return DecodedImages


def read_decoded(path: Path) -> tuple[Rgb, tuple[int, int]] | None:
    """Return an image `[H,W,C]` uint8 that `write_decoded` wrote, and height and width of its file; None without it."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError:
        return None
    start = 4 * _HEADER
    if len(content) < start:
        return None
    height, width, *shape = (int(number) for number in content[:start].view(np.int32))
    if len(content) != start + shape[0] * shape[1] * shape[2]:
        return None
    return content[start:].reshape(shape), (height, width)


def write_decoded(path: Path, image: Rgb, original: tuple[int, int]) -> bool:
    """Keep an image `[H,W,C]` whose file has this height and width, whole or not at all; False if there is no room."""
    if image.dtype != np.uint8:
        return True
    header = np.array([*original, *image.shape], np.int32)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")  # another worker may be at the same image
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < RESERVE + image.nbytes:
            return False
        with unfinished.open("wb") as file:
            file.write(header.tobytes())
            file.write(np.ascontiguousarray(image).data)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        return False
    return True
