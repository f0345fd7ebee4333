"""Image files as Ultralytics takes them: with nothing lost and nothing decoded."""

_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


def with_end_mark(data: bytes) -> bytes:
    """Return an image file; a JPEG with anything behind its end mark gets one more as its last two bytes.

    Ultralytics takes a JPEG that ends otherwise for damaged: it compresses the pixels anew, or leaves the image out
    where Pillow cannot write its EXIF. Decoders stop at the first end mark, so every byte and every pixel stays.
    """
    return data + _JPEG_END if data.startswith(_JPEG) and not data.endswith(_JPEG_END) else data
