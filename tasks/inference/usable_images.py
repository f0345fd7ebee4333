"""Images of inputs as a dataset can hold them: byte for byte, or as PNG if training does not read their format."""

import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2

from tasks.dataset.image_stats import IMAGE_ENDINGS, ImageStats, check_image
from tasks.inference.media_inputs import MediaStore
from tasks.inference.results.summary import Failure
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.images import decode_image
from tasks.storage.ranged_reads import ObjectChangedError

IMAGES_ON_DISK = 1000  # at a time, to be predicted


@dataclass(frozen=True, eq=False, kw_only=True)
class UsableImage:
    """The bytes of an image, its ending, such as `.jpg`, and its statistics.

    `checksum` is the CRC-32 and the size of its source.
    """

    data: bytes
    ending: str
    checksum: tuple[int, int]
    stats: ImageStats


def read_usable_image(media: MediaStore, source: MediaSource) -> UsableImage | Failure:
    """Return an image that passes the check of a dataset, or why there is none; safe in many threads.

    Raises:
        StorageError: The store stays away.
    """
    try:
        return to_usable_image(media.read(source), source.name)
    except (MediaError, ObjectChangedError) as error:
        return Failure(source=source.name, reason=str(error))


def to_usable_image(data: bytes, name: str) -> UsableImage:
    """Return a file as an image that passes the check of a dataset, whatever its name ends in.

    Raises:
        MediaError: It is no image, or too small.
    """
    checksum = zlib.crc32(data), len(data)
    for ending in dict.fromkeys((PurePosixPath(name).suffix.lower(), ".jpg", ".png")):
        if ending in IMAGE_ENDINGS and (stats := check_image(data, ending)[0]):
            return UsableImage(data=data, ending=ending, checksum=checksum, stats=stats)
    png = cv2.imencode(".png", cv2.cvtColor(decode_image(data), cv2.COLOR_RGB2BGR))[1].tobytes()
    stats, findings = check_image(png, ".png")
    if stats is None:
        raise MediaError(findings[0].message)
    return UsableImage(data=png, ending=".png", checksum=checksum, stats=stats)
