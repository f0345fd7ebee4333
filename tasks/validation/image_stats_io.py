"""What a check saw of the images of an archive, as a table that can be kept beside its report."""

import io
from collections.abc import Mapping

import pandas as pd

from tasks.dataset.image_stats import ImageStats


def pack_image_stats(images: Mapping[str, ImageStats]) -> bytes:
    """Return the traits as parquet, a row an image, its name in column `image`."""
    table = pd.DataFrame(list(images.values()), columns=list(ImageStats._fields))
    table.insert(0, "image", list(images))
    return table.to_parquet(index=False)


def unpack_image_stats(data: bytes) -> dict[str, ImageStats]:
    """Return what `pack_image_stats` was given."""
    table = pd.read_parquet(io.BytesIO(data))
    rows = zip(*(table[name].tolist() for name in ImageStats._fields), strict=True)
    return {image: ImageStats(*row) for image, row in zip(table["image"].tolist(), rows, strict=True)}
