"""Lists of images that runs leave: what comes back, and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.inference import image_lists
from tasks.inference.image_lists import (
    OF_REVIEW,
    ImageList,
    ListedImage,
    are_chosen,
    find_image_list,
    list_run_sources,
    named_run,
    write_image_list,
)
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.storage.s3_client import StorageError

RUN = "6f1f4f0e-1111-4222-8333-444455556666"
IMAGE = MediaSource(name="s3://media/a.jpg", bucket="media", key="a.jpg", etag='"1"', size=9, kind=MediaKind.IMAGE)
LISTED = ListedImage(source=IMAGE, reason="unsure about 3 of 5 cells: 0.41, 0.46, 0.52")
KEPT = ImageList(images=(LISTED,), predictions_run=RUN)


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    objects = dict[str, bytes]()
    monkeypatch.setattr(image_lists._RUNS, "put", lambda key, body, _: objects.update({key: body}))
    monkeypatch.setattr(
        image_lists._RUNS, "get_start", lambda key, size: objects[key][:size] if key in objects else None
    )
    monkeypatch.setattr(image_lists._RUNS, "exists", objects.__contains__)
    monkeypatch.setattr(image_lists, "read_answered", {RUN[::-1]: [IMAGE]}.get)
    return objects


@pytest.mark.parametrize("images", [(), (LISTED,), (LISTED, replace(LISTED, reason="a\nb\u2028"))])
def test_a_list_comes_back_as_it_was_written(images: tuple[ListedImage, ...]) -> None:
    write_image_list(RUN, replace(KEPT, images=images))
    assert find_image_list(RUN) == replace(KEPT, images=images)


@pytest.mark.parametrize(
    ("inputs", "tags", "chosen"),
    [
        (["street/", "a.jpg"], [], False),
        ([f"run:{RUN[:-1]}0"], [], False),  # all that a run of inference has answered
        (["street/", f"run:{RUN}"], [], True),
        (["street/"], ["pipeline:6f1f4f0e", OF_REVIEW], True),
        (["street/"], ["pipeline:6f1f4f0e"], False),
    ],
)
def test_images_of_a_list_or_of_a_review_were_chosen(inputs: list[str], tags: list[str], chosen: bool) -> None:
    write_image_list(RUN, KEPT)
    assert are_chosen(inputs, tags) == chosen


def test_a_name_that_is_no_unicode_is_listed_as_results_name_it() -> None:
    odd = replace(IMAGE, name="s3://media/a.zip/\udcff.jpg", entry=3)
    write_image_list(RUN, ImageList(images=(replace(LISTED, source=odd),)))
    assert list_run_sources(RUN) == [replace(odd, name=r"s3://media/a.zip/\udcff.jpg")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.rpartition(b"\n")[0],
        lambda data: data + b"\n" + data.rpartition(b"\n")[2],
        lambda data: data.replace(b'"size":9', b'"size":"9"'),
        lambda data: data.replace(b'"image"', b'"program"'),
        lambda data: data.replace(b'"etag"', b'"tag"'),
        lambda _: b"\xff[",
        lambda _: b"[" * 100_000,
        lambda _: b" " * 1_000_001,
    ],
)
def test_a_damaged_list_is_refused(
    damage: Callable[[bytes], bytes], stored: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_lists, "MAX_BYTES", 1_000_000)
    write_image_list(RUN, KEPT)
    ((key, data),) = stored.items()
    stored[key] = damage(data)
    assert stored[key] != data
    with pytest.raises(StorageError, match=f"list of images of flow run {RUN}, found a damaged one"):
        list_run_sources(RUN)


def test_a_list_cannot_name_images_that_no_run_may_read() -> None:
    write_image_list(RUN, replace(KEPT, images=(replace(LISTED, source=replace(IMAGE, bucket="models")),)))
    with pytest.raises(StorageError, match="found bucket models"):
        list_run_sources(RUN)


def test_a_run_stands_for_its_list_or_for_what_it_has_answered() -> None:
    inference = RUN[::-1]
    assert list_run_sources(inference) == [IMAGE]
    write_image_list(inference, ImageList(images=()))
    assert list_run_sources(inference) == []
    with pytest.raises(StorageError, match="found neither a list of images nor predictions"):
        list_run_sources(RUN)
    assert find_image_list(RUN) is None


def test_an_input_names_a_run_or_what_lies_in_a_bucket() -> None:
    assert named_run(f"run:{RUN}") == RUN
    assert [named_run(text) for text in ("run/", "a.jpg", f"s3://media/run:{RUN}")] == [None] * 3
    for text in ("run:", "run:../x", f"run:{RUN} "):
        with pytest.raises(StorageError, match="after run:, found"):
            named_run(text)
