"""Which images people need not be asked about again, by what their rounds have left."""

import json
from dataclasses import replace
from uuid import uuid4

import boto3
import pytest

from tasks.pipelines import steps as pipeline_steps
from tasks.pipelines.rules import PipelineError
from tasks.review.answers import Answers
from tasks.review.asked_images import find_asked_images, keep_asked_images, list_reviewed_archives
from tests.tasks.review.rounds import review_round

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture
def model() -> str:
    return f"asked-{uuid4().hex[:8]}"


def answer(archive: str, *, is_made: bool = True) -> None:
    """Of four images, submit the first, skip the second, set the third aside, and leave the last open."""
    review = review_round("detect", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    images = tuple(replace(each, checksum=(number, 10)) for number, each in enumerate(review.images))
    answers = Answers(
        submitted={"a.jpg": "{}"}, seconds={}, skipped_entries=("b.jpg",), set_aside_entries=("c.jpg",), still_open=1
    )
    keep_asked_images.fn(archive, replace(review, images=images), answers)
    if is_made:
        boto3.client("s3").put_object(Bucket="datasets", Key=archive, Body=b"zip")


def test_nobody_is_asked_twice_about_what_they_answered_or_set_aside_in_a_loop(model: str) -> None:
    """What was open when the time was over comes again; so does all of a round that no loop trains on."""
    answer(f"loops/{model}-2/0-reviewed.zip")
    answer(f"{model}.zip")
    assert find_asked_images.fn(model) == frozenset()
    answer(f"loops/{model}/0-reviewed.zip")
    assert find_asked_images.fn(model) == {(0, 10), (1, 10), (2, 10)}


def test_what_was_answered_comes_again_when_its_archive_is_deleted(model: str) -> None:
    answer(f"loops/{model}/0-reviewed.zip", is_made=False)
    assert find_asked_images.fn(model) == {(1, 10), (2, 10)}


def test_a_record_of_somebody_else_is_passed_over(model: str) -> None:
    answer(f"loops/{model}/0-reviewed.zip")
    for number, body in enumerate((b"text", json.dumps({"submitted": [[1]], "skipped": []}).encode())):
        boto3.client("s3").put_object(
            Bucket="runs", Key=f"reviewed-images/loops/{model}/other-{number}.json", Body=body
        )
    assert find_asked_images.fn(model) == {(0, 10), (1, 10), (2, 10)}


def test_a_pattern_takes_archives_of_loops_only_if_it_names_their_folder(model: str) -> None:
    """Else another training learns what a model has labelled in a loop that was refused."""
    answer(f"loops/{model}/0-reviewed.zip")
    boto3.client("s3").put_object(Bucket="datasets", Key=f"loops/{model}/0-labelled.zip", Body=b"zip")
    with pytest.raises(PipelineError, match="found none whose name ends"):
        pipeline_steps.plan_archives.fn(str(uuid4()), model, [f"*{model}*.zip"])
    chosen = pipeline_steps.plan_archives.fn(str(uuid4()), model, [f"loops/{model}/*-reviewed.zip"])
    assert (
        [each.name for each in chosen.archives] == list_reviewed_archives.fn(model) == [f"loops/{model}/0-reviewed.zip"]
    )
