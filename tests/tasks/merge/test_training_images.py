"""What is kept of the images of a training."""

import contextlib
import random
import zipfile
import zlib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.merge.steps import plan_archives
from tasks.merge.training_images import (
    TrainingImages,
    pack_training_images,
    training_images,
    unpack_training_images,
)
from tasks.parameters import MergePolicy
from tests.tasks.merge.archives import Entries, checked, dataset, picture, row


def test_all_copies_of_a_picture_are_learnt_and_split_test_is_not(tmp_path: Path) -> None:
    again = picture(1) + b"more bytes"
    others: Entries = {"data.yaml": "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n"}
    others |= {"images/train/0.jpg": again, "images/test/9.jpg": picture(30), "labels/test/9.txt": row(0, 30)}
    archives = checked(tmp_path, dataset(0), dataset(10, changes=others))
    plan = plan_archives.fn(archives, MergePolicy())
    assert len(plan.united) == 1
    images = training_images(plan)

    def checksums(contents: list[bytes]) -> set[tuple[int, int]]:
        return {(zlib.crc32(each), len(each)) for each in contents}

    assert images.train == checksums([again, *(picture(seed) for seed in (0, 1, 2, 3, 11, 12, 13))])
    assert images.val == checksums([picture(seed) for seed in (4, 5, 14, 15)])
    assert unpack_training_images(pack_training_images(images)) == images
    with zipfile.ZipFile(archives[1].path) as file:
        tested = file.getinfo("images/test/9.jpg")
    assert (tested.CRC, tested.file_size) not in images


def test_a_hundred_thousand_images_take_less_than_two_megabytes() -> None:
    rng = random.Random(0)  # noqa: S311 - no secret
    drawn = frozenset((rng.getrandbits(32), rng.randint(20_000, 400_000)) for _ in range(100_000))
    assert len(pack_training_images(TrainingImages(train=drawn))) < 2_000_000


def parquet(**columns: list[object]) -> bytes:
    return pd.DataFrame(columns).to_parquet(index=False)


FOREIGN = [
    b"",
    b"{}",
    b"PAR1PAR1",
    b"PAR1" + bytes(50) + b"PAR1",
    parquet(split=["train"], crc32=[1]),
    parquet(split=["train"], crc32=[[1]], bytes=[2]),
    parquet(split=["train"], crc32=["one"], bytes=[2]),
    parquet(split=["train"], crc32=[None], bytes=[2]),
    parquet(split=["train"], crc32=[-1], bytes=[2]),
    parquet(split=["train"], crc32=[1.5], bytes=[2]),
]


@pytest.mark.parametrize("data", FOREIGN)
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        unpack_training_images(data)


@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(
        pack_training_images(TrainingImages(train=frozenset({(1, 2), (3, 4)}), val=frozenset({(5, 6)})))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        unpack_training_images(bytes(damaged))
