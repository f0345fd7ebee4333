"""The image statistics of an archive as a table that can be kept beside its report."""

import io
from collections.abc import Mapping

import pandas as pd

from tasks.dataset.image_stats import ImageStats


def pack_image_stats(images: Mapping[str, ImageStats]) -> bytes:
    """Return the statistics as parquet, a row an image, its name in column `image`."""
    table = pd.DataFrame(list(images.values()), columns=list(ImageStats._fields))
    table.insert(0, "image", list(images))
    return table.to_parquet(index=False)


def unpack_image_stats(data: bytes) -> dict[str, ImageStats]:
    """Return the statistics of each image from the bytes of `pack_image_stats`."""
    table = pd.read_parquet(io.BytesIO(data))
    rows = zip(*(table[name].tolist() for name in ImageStats._fields), strict=True)
    return dict(zip(table["image"].tolist(), map(ImageStats._make, rows), strict=True))
