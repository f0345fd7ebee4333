"""Images of inputs as an archive can hold them: byte for byte, or as PNG if training does not read their format."""

import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

import cv2

from tasks.dataset.image_stats import IMAGE_ENDINGS, check_image
from tasks.inference.media_inputs import MediaStore
from tasks.inference.results.summary import Failure
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.images import decode_image
from tasks.storage.ranged_reads import ObjectChangedError

ROUND = 1000  # images that are on the disk at a time to be predicted


@dataclass(frozen=True, eq=False, kw_only=True)
class UsableImage:
    """The bytes of an image and its ending, such as `.jpg`.

    `checksum` is the CRC-32 and the size of its source, `thumbnail` its 16 x 16 levels.
    """

    data: bytes
    ending: str
    checksum: tuple[int, int]
    thumbnail: bytes


def read_usable_image(media: MediaStore, source: MediaSource) -> UsableImage | Failure:
    """Return an image that passes the check of a dataset, or why there is none; safe in many threads.

    Raises:
        StorageError: The store stays away.
    """
    try:
        data = media.read(source)
        checksum = zlib.crc32(data), len(data)
        for ending in dict.fromkeys((PurePosixPath(source.name).suffix.lower(), ".jpg", ".png")):
            if ending in IMAGE_ENDINGS and (stats := check_image(data, ending)[0]):
                return UsableImage(data=data, ending=ending, checksum=checksum, thumbnail=stats.thumbnail)
        png = cv2.imencode(".png", cv2.cvtColor(decode_image(data), cv2.COLOR_RGB2BGR))[1].tobytes()
    except (MediaError, ObjectChangedError) as error:
        return Failure(source=source.name, reason=str(error))
    stats, findings = check_image(png, ".png")
    if stats is None:
        return Failure(source=source.name, reason=findings[0].message)
    return UsableImage(data=png, ending=".png", checksum=checksum, thumbnail=stats.thumbnail)
