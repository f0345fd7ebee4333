"""Steps of a selection: fetch its images."""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.dataset.image_stats import IMAGE_ENDINGS, check_image, is_image
from tasks.errors import expected_found_fix
from tasks.inference.media_inputs import MediaStore
from tasks.inference.results.summary import WARNING, Failure
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind
from tasks.merge.training_images import Checksum
from tasks.orchestration.step import retried_step
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.storage.s3_client import TRANSFERS, StorageError


@dataclass(frozen=True, kw_only=True)
class FetchedImage:
    """An image as a file, the CRC-32 and the size of that, and its 16 x 16 levels."""

    source: MediaSource
    path: Path
    checksum: Checksum
    thumbnail: bytes


@retried_step
def fetch_images(sources: Sequence[MediaSource], folder: Path) -> tuple[list[FetchedImage], list[Failure]]:
    """Write images into `folder` under numbers, in their order; those that cannot be labelled are failures.

    Raises:
        StorageError: The object store stays away, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = MediaStore()

    def fetch(number: int) -> FetchedImage | Failure:
        return _fetch(store, sources[number], folder / f"{number:06d}")

    try:
        with ThreadPoolExecutor(TRANSFERS) as pool:
            found = list(pool.map(fetch, range(len(sources))))
    except OSError as error:
        fix = "Make room on this disk, or let STUDIO_SCRATCH_DIR name a folder on a larger one."
        raise StorageError(
            expected_found_fix("to write the images into the scratch folder", str(error), fix)
        ) from error
    images = [each for each in found if isinstance(each, FetchedImage)]
    return images, [each for each in found if isinstance(each, Failure)]


def _fetch(store: MediaStore, source: MediaSource, stem: Path) -> FetchedImage | Failure:
    if unfit := _find_unfit(source):
        return unfit
    try:
        data = store.read(source)
    except MediaError as error:
        return Failure(source=source.name, reason=str(error))
    except ObjectChangedError:
        return Failure(source=source.name, reason="expected the image as it was listed, found another or none")
    stats, findings = check_image(data, source.name)
    if stats is None:
        return Failure(source=source.name, reason=findings[0].message)
    path = stem.with_suffix(PurePosixPath(source.name).suffix.lower())
    path.write_bytes(data)
    return FetchedImage(source=source, path=path, checksum=(zlib.crc32(data), len(data)), thumbnail=stats.thumbnail)


def _find_unfit(source: MediaSource) -> Failure | None:
    """What no person can label as an image, by its listing; None if it may be one."""
    if source.note:
        return Failure(source=source.name, reason=source.note, severity=WARNING)
    if source.fault:
        return Failure(source=source.name, reason=source.fault)
    if source.kind is MediaKind.VIDEO:
        reason = "expected an image, found a video; save the frames that may be worth it as images"
        return Failure(source=source.name, reason=reason)
    if not is_image(source.name):
        reason = f"expected an image that training reads ({', '.join(IMAGE_ENDINGS)}); convert it"
        return Failure(source=source.name, reason=reason)
    return None
