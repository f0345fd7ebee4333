"""Files to pictures and back: images, videos and zips of images, all of them hostile until decoded."""

from tasks.core.media.clips import VideoWriter
from tasks.core.media.drawing import draw
from tasks.core.media.errors import MediaError
from tasks.core.media.headers import Kind, kind_of
from tasks.core.media.images import decode_image, fit, read_image, write_jpeg
from tasks.core.media.sources import Picture, estimate, file_kind, pictures
from tasks.core.media.video import read_frames

__all__ = [
    "Kind",
    "MediaError",
    "Picture",
    "VideoWriter",
    "decode_image",
    "draw",
    "estimate",
    "file_kind",
    "fit",
    "kind_of",
    "pictures",
    "read_frames",
    "read_image",
    "write_jpeg",
]
