"""What a check saw of the images of an archive, as a table that can be kept beside its report."""

import io
from collections.abc import Mapping

import pandas as pd

from tasks.dataset.image_stats import ImageTraits


def pack_traits(images: Mapping[str, ImageTraits]) -> bytes:
    """Return the traits as parquet, a row an image, its name in column `image`."""
    table = pd.DataFrame(list(images.values()), columns=list(ImageTraits._fields))
    table.insert(0, "image", list(images))
    return table.to_parquet(index=False)


def unpack_traits(data: bytes) -> dict[str, ImageTraits]:
    """Return what `pack_traits` was given."""
    table = pd.read_parquet(io.BytesIO(data))
    rows = zip(*(table[name].tolist() for name in ImageTraits._fields), strict=True)
    return {image: ImageTraits(*row) for image, row in zip(table["image"].tolist(), rows, strict=True)}
