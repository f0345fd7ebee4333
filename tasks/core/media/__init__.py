"""Files to pictures and back: images, videos and zips of images, all of them hostile until decoded."""

from tasks.core.media.archives import Entry, Listing, list_entries, read_entry
from tasks.core.media.clips import VideoWriter
from tasks.core.media.drawing import draw
from tasks.core.media.errors import MediaError
from tasks.core.media.headers import HEAD_BYTES, Kind, kind_of
from tasks.core.media.images import decode_image, decoded_bytes, fit, read_image, write_jpeg
from tasks.core.media.sources import Picture, expand
from tasks.core.media.video import frame_count, read_frames

__all__ = [
    "HEAD_BYTES",
    "Entry",
    "Kind",
    "Listing",
    "MediaError",
    "Picture",
    "VideoWriter",
    "decode_image",
    "decoded_bytes",
    "draw",
    "expand",
    "fit",
    "frame_count",
    "kind_of",
    "list_entries",
    "read_entry",
    "read_frames",
    "read_image",
    "write_jpeg",
]
