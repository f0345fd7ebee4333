"""What differs between two archives."""

import io
import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from tasks.catalogue.cursors import CatalogueError
from tasks.catalogue.difference import ArchiveDifference, RelabelledImage, compare_archives, compare_files
from tasks.storage import ranged_reads
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import StorageError
from tests.tasks.dataset.archives import BOX, YAML, Content, good, image, zipped


def compared(before: Mapping[str, Content] | bytes, after: Mapping[str, Content] | bytes) -> ArchiveDifference:
    one, other = (io.BytesIO(each if isinstance(each, bytes) else zipped(each)) for each in (before, after))
    return compare_files(one, other, "a.zip", "b.zip")


def test_an_archive_does_not_differ_from_itself() -> None:
    difference = compared(good(), {**good(), "README.txt": "not compared"})
    assert difference.is_empty
    assert difference.to_text().endswith("no difference")


def test_images_are_told_apart_by_their_bytes() -> None:
    before = {**good(), "images/train/old.jpg": image(seed=2), "images/train/same-name.jpg": image(seed=3)}
    after = {
        **before,
        "images/train/a.jpg": None,
        "labels/train/a.txt": None,
        "images/train/renamed.jpg": image(),
        "labels/train/renamed.txt": BOX,
        "images/train/old.jpg": None,
        "images/train/new.jpg": image(seed=9),
        "images/train/same-name.jpg": image(seed=4),
    }
    difference = compared(before, after)

    assert difference.images == (4, 4)
    assert difference.added == ("images/train/new.jpg",)
    assert difference.removed == ("images/train/old.jpg",)
    assert difference.replaced == ("images/train/same-name.jpg",)
    assert difference.renamed == (("images/train/a.jpg", "images/train/renamed.jpg"),)
    assert (difference.moved, difference.relabelled, difference.is_empty) == ((), (), False)


def test_an_image_in_another_split_is_moved() -> None:
    after = {**good(), "images/train/a.jpg": None, "images/val/a.jpg": image(), "labels/val/a.txt": BOX}
    difference = compared(good(), after)
    assert difference.moved == (("images/val/a.jpg", "train", "val"),)
    assert difference.relabelled == ()


@pytest.mark.parametrize(
    ("label", "after"),
    [
        ("1 0.5 0.5 0.25 0.25\n", {"dog": 1}),
        ("0 0.5 0.5 0.25 0.3\n", {"cat": 1}),
        (BOX + BOX, {"cat": 2}),
        ("", {}),
        ("7 0.5 0.5 0.25 0.25\n", {"class 7": 1}),
    ],
)
def test_the_same_bytes_with_other_labels_are_relabelled(label: str, after: dict[str, int]) -> None:
    difference = compared(good(), good(label=label))
    assert difference.relabelled == (RelabelledImage(image="images/train/a.jpg", before={"cat": 1}, after=after),)
    assert not difference.is_empty


def test_neither_the_order_of_classes_and_rows_nor_the_way_of_numbers_makes_a_difference() -> None:
    swapped = {
        **good(yaml=YAML.replace("cat, dog", "dog, cat"), label="0 0.5 0.5 0.1 0.1\n1 0.5 0.50 2.5e-1 .25\n\n"),
        "labels/val/b.txt": "0 0.5 0.5 0.5 0.5\n",
    }
    assert compared(good(label=BOX + "1 .5 .5 .1 .1\n"), swapped).is_empty


def test_classes_are_counted_and_those_of_one_archive_alone_are_named() -> None:
    after = good(yaml=YAML.replace("cat, dog", "cat, dog, cow"), label=BOX * 2)
    counts = {each.name: (each.before, each.after) for each in compared(good(), after).classes}
    assert counts == {"cat": (1, 2), "dog": (1, 1), "cow": (None, 0)}


def test_copies_of_an_image_are_counted() -> None:
    before = {**good(), "images/train/copy.jpg": image(), "labels/train/copy.txt": BOX}
    assert compared(before, good()).removed == ("images/train/copy.jpg",)
    assert compared(good(), before).added == ("images/train/copy.jpg",)


def test_a_classification_tree_is_relabelled_by_its_folders() -> None:
    before = {"train/cat/a.jpg": image(), "train/dog/b.jpg": image(seed=1), "val/cat/c.jpg": image(seed=2)}
    after = {**before, "train/cat/a.jpg": None, "train/dog/a.jpg": image()}
    difference = compared(before, after)
    assert difference.relabelled == (RelabelledImage(image="train/dog/a.jpg", before={"cat": 1}, after={"dog": 1}),)
    assert difference.renamed == (("train/cat/a.jpg", "train/dog/a.jpg"),)


def test_what_cannot_be_read_is_named_and_the_rest_is_compared() -> None:
    body = bytearray(zipped(good(), method=0))
    body[body.index(BOX.encode())] ^= 0xFF
    difference = compared(good(), bytes(body))
    assert difference.removed == ("images/train/a.jpg",)
    assert len(difference.unreadable) == 1
    assert difference.unreadable[0].startswith("b.zip: images/train/a.jpg: Expected an entry that unpacks")


@pytest.mark.parametrize("body", [b"", b"no zip", zipped(good())[:-30]])
def test_what_is_no_archive_is_a_clear_error(body: bytes) -> None:
    with pytest.raises(CatalogueError, match=r"'b\.zip' cannot be compared\. Expected a whole zip archive"):
        compared(good(), body)


def test_names_of_others_command_no_terminal_and_long_lists_end() -> None:
    added: dict[str, Content] = {
        f"images/train/{number:02d}\u202egpj.exe.jpg": image(seed=10 + number) for number in range(25)
    }
    difference = compared(good(), {**good(), **added})
    text = difference.to_text()
    assert "\u202e" not in text
    assert ("added: 25" in text, "  and 5 more" in text) == (True, True)
    assert len(json.loads(json.dumps(difference.to_json()))["added"]) == 25


@pytest.mark.usefixtures("stack")
def test_of_stored_archives_no_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    large = {f"images/train/large-{number}.jpg": os.urandom(1 << 20) for number in range(8)}
    store = ObjectStore("datasets")
    store.put("difference-a.zip", zipped({**good(), **large}))
    store.put("difference-b.zip", zipped({**large, **good(label="")}))
    sizes: list[int] = []
    read = ranged_reads.read

    def counted(*place: Any) -> bytes:
        sizes.append(len(data := read(*place)))
        return data

    monkeypatch.setattr(ranged_reads, "read", counted)
    difference = compare_archives("difference-a.zip", "s3://datasets/difference-b.zip")

    assert difference.to_text().splitlines()[-1] == "  images/train/a.jpg: cat 1 -> 0"
    assert 0 < sum(sizes) < 1 << 20  # of 16 MiB
    with pytest.raises(StorageError, match="Expected a dataset archive at s3://datasets/absent"):
        compare_archives("difference-a.zip", "absent.zip")
