"""Which images a version was trained on, by what the directories of zips say: the CRC-32 and the size of each.

The same file has both under any name, in any archive, however that is packed; a picture that was encoded anew has not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from tasks.merge.plan import MergePlan
from tasks.parquet_tables import read_table

TRAINING_IMAGES = "training-images.parquet"
MOST_IMAGES = 10_000_000
Checksum = tuple[int, int]  # CRC-32, and bytes
_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
        pa.field("bytes", pa.uint32(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """The images of a training: those of `train`, which were learnt, and those of `val`, which chose the epoch."""

    train: frozenset[Checksum] = frozenset()
    val: frozenset[Checksum] = frozenset()

    def __or__(self, other: "TrainingImages") -> "TrainingImages":
        """Return the images of both trainings."""
        return TrainingImages(train=self.train | other.train, val=self.val | other.val)

    def __contains__(self, image: object) -> bool:
        """Return whether the image of a checksum was in the training."""
        return image in self.train or image in self.val


def training_images(plan: MergePlan) -> TrainingImages:
    """Return the images of a plan; of a picture that several archives have, all copies."""
    copies = {(each.written.archive, each.written.image): each.copies for each in plan.united}

    def checksums(split: str) -> Iterator[Checksum]:
        for number, splits in enumerate(plan.splits):
            for sample in splits.get(split, ()):
                yield plan.entries[number][sample.image]
                for copy in copies.get((number, sample.image), ()):
                    yield plan.entries[copy.archive][copy.image]

    return TrainingImages(train=frozenset(checksums("train")), val=frozenset(checksums("val")))


def pack_training_images(images: TrainingImages) -> bytes:
    """Return the images as parquet, a row an image: `split`, `crc32`, `bytes`. The same images give the same bytes."""
    rows = [(split, *each) for split, own in (("train", images.train), ("val", images.val)) for each in sorted(own)]
    table = pd.DataFrame(rows, columns=["split", "crc32", "bytes"])
    return table.astype({"split": "category", "crc32": "uint32", "bytes": "uint32"}).to_parquet(index=False)


def unpack_training_images(data: bytes) -> TrainingImages:
    """Return the images from the bytes of `pack_training_images`.

    Raises:
        ValueError: These are other bytes.
    """
    rows = read_table(data, _SCHEMA, MOST_IMAGES).to_pandas()
    of_split = {split: rows[rows["split"] == split] for split in ("train", "val")}
    return TrainingImages(
        **{
            split: frozenset(zip(own["crc32"].tolist(), own["bytes"].tolist(), strict=True))
            for split, own in of_split.items()
        }
    )
