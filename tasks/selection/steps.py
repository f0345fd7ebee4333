"""Steps of a selection: fetch its images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import expected_found_fix
from tasks.files import MAKE_ROOM
from tasks.inference.media_inputs import MediaStore
from tasks.inference.results.summary import WARNING, Failure
from tasks.inference.usable_images import read_usable_image
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.merge.training_images import Checksum
from tasks.orchestration.step import retried_step
from tasks.storage.s3_client import TRANSFERS, StorageError


@dataclass(frozen=True, kw_only=True)
class FetchedImage:
    """An image as a file that training reads, the CRC-32 and the size of its source, and its 16 x 16 levels."""

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
        raise StorageError(
            expected_found_fix("to write the images into the scratch folder", str(error), MAKE_ROOM)
        ) from error
    images = [each for each in found if isinstance(each, FetchedImage)]
    return images, [each for each in found if isinstance(each, Failure)]


def _fetch(store: MediaStore, source: MediaSource, stem: Path) -> FetchedImage | Failure:
    if source.note:
        return Failure(source=source.name, reason=source.note, severity=WARNING)
    if source.kind is MediaKind.VIDEO:
        reason = "expected an image, found a video; save the frames that may be worth it as images"
        return Failure(source=source.name, reason=reason)
    image = read_usable_image(store, source)
    if isinstance(image, Failure):
        return image
    path = stem.with_suffix(image.ending)
    path.write_bytes(image.data)
    return FetchedImage(source=source, path=path, checksum=image.checksum, thumbnail=image.stats.thumbnail)
