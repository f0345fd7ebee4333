"""What a version is known to find in validation."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from prefect.logging import disable_run_logger

from tasks.errors import StudioError
from tasks.evaluation import steps
from tasks.evaluation.labelled_images import EvaluationSet, NoLabelledImagesError
from tasks.evaluation.validation_matching import VALIDATION_MATCHING
from tasks.merge.class_mapping import plan_classes
from tasks.merge.training_images import TrainingImages
from tasks.parameters import MergePolicy, TrainingParams
from tasks.tracked_evaluation import validation
from tasks.tracking import registry, runs
from tasks.tracking.mlflow_client import TrackingError
from tests.tasks.evaluation.test_validation_matching import matched
from tests.tasks.evaluation.test_version_evaluation import HOSTILE, perfect, unpacked
from tests.tasks.tracked_evaluation.test_subjects import NOTHING, subject

STORED = {"archives": '{"reviewed.zip": "dd", "a.zip": "aa", "gone.zip": "bb", "s3://elsewhere/b.zip": "cc"}'}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationSet:
    """The images of a.zip, which is all of what a version was trained on that is left and has a val."""
    data = unpacked(tmp_path, "detect")
    monkeypatch.setattr(registry, "read_tags", lambda *_: STORED)
    monkeypatch.setattr(validation, "read_policies", lambda _: (TrainingParams(), MergePolicy()))
    monkeypatch.setattr(registry, "fetch_weights", lambda *_: tmp_path)
    monkeypatch.setattr(validation, "ObjectStore", lambda *_: MagicMock(exists=["a.zip", "reviewed.zip"].__contains__))

    def fetch(names: list[str], split: str, *_: Any) -> EvaluationSet:
        if names != ["a.zip"]:
            raise NoLabelledImagesError(f"Expected images in split {split} of {names}, found train.")
        return data

    monkeypatch.setattr(validation, "fetch_images", fetch)

    def predict(images: EvaluationSet, *_: Any) -> Any:
        return perfect(images, "detect")

    monkeypatch.setattr(steps, "predict", predict)
    return data


def test_a_version_is_measured_on_what_is_left_of_its_validation_data_and_it_has_not_learnt(
    data: EvaluationSet, tmp_path: Path
) -> None:
    seen = [data.checksums["a.zip"][image.name] for image in data.images]
    learnt = replace(NOTHING, images=TrainingImages(train=frozenset(seen[:1]), val=frozenset(seen[1:])))
    with disable_run_logger():
        measured = validation.measure_validation(subject(2, 64, learnt), None, tmp_path)
        assert measured.source.images == 3
        assert measured.labelled.all()
        learnt = replace(NOTHING, images=TrainingImages(train=frozenset(seen)))
        with pytest.raises(StudioError, match=r"images in a\.zip, split val that version 2 has not learnt, found none"):
            validation.measure_validation(subject(2, 64, learnt), None, tmp_path / "again")


@pytest.mark.parametrize(
    ("renames", "class_names"),
    [
        ({"cat": "animal"}, ("animal", HOSTILE)),
        ({"cat": HOSTILE, HOSTILE: "cat"}, (HOSTILE, "cat")),
        ({"b.zip:cat": "animal", "gone": "animal", "*": "object"}, ("object",)),
        ({"a.zip:cat": None}, (HOSTILE,)),
    ],
)
def test_a_version_is_measured_on_classes_as_they_were_renamed_for_its_training(
    data: EvaluationSet,
    renames: dict[str, str | None],
    class_names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some renames are of archives that are gone. The version finds all that was labelled, under its own names."""
    monkeypatch.setattr(validation, "read_policies", lambda _: (TrainingParams(), MergePolicy(classes=renames)))
    judge = subject(2, 64)
    judge = replace(judge, version=replace(judge.version, class_names=class_names))
    with disable_run_logger():
        measured = validation.measure_validation(judge, None, tmp_path)
    plan = plan_classes(["a.zip"], [data.class_names], renames)
    labels = [plan.class_names[own] for row in label_classes(data) if (own := plan.class_ids[0][row]) is not None]
    found = [class_names[number] for number in measured.class_id]
    assert Counter(found) == Counter(labels)
    assert measured.labelled.all()


def label_classes(data: EvaluationSet) -> list[int]:
    return [row.class_id for image in data.images for row in image.rows]


@pytest.mark.parametrize(
    ("archive", "expected"),
    [("a.zip", ["animal", HOSTILE]), ("new.zip", ["animal", HOSTILE])],
)
def test_a_new_archive_is_renamed_as_for_the_training_but_for_the_names_of_the_version(
    data: EvaluationSet, archive: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    renames = {"cat": "animal", "animal": None, HOSTILE: HOSTILE}
    monkeypatch.setattr(validation, "read_policies", lambda _: (TrainingParams(), MergePolicy(classes=renames)))
    version = replace(subject(2, 64).version, class_names=("animal", HOSTILE))
    named = replace(data, digests={archive: "dd"})
    assert list(validation.join_as_trained(version, [named]).class_names) == expected
    labelled_since = replace(named, class_names=("animal", HOSTILE))
    since = validation.join_as_trained(version, [labelled_since])
    assert len(label_classes(since)) == (len(label_classes(data)) if archive == "new.zip" else 2)


@pytest.mark.parametrize("tags", [{"lineage": "imported"}, STORED])
def test_of_a_version_whose_training_is_not_kept_classes_are_taken_as_they_are_named(
    data: EvaluationSet, tags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgotten(_: Any) -> Any:
        error = TrackingError("Expected the arguments of its training, found none.")
        error.transient = broken
        raise error

    broken = False
    monkeypatch.setattr(registry, "read_tags", lambda *_: tags)
    monkeypatch.setattr(validation, "read_policies", forgotten)
    with disable_run_logger():
        assert validation.join_as_trained(subject(2, 64).version, [data]).class_names == data.class_names
    broken = tags == STORED
    with pytest.raises(TrackingError) if broken else nullcontext():
        validation.join_as_trained(subject(2, 64).version, [data])


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("archives", "found"), [('{"gone.zip": "bb", "reviewed.zip": "dd"}', "none in"), ("", "no archive that")]
)
def test_without_an_archive_that_it_was_trained_on_a_version_says_what_to_do(
    archives: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "read_tags", lambda *_: {"archives": archives})
    with (
        disable_run_logger(),
        pytest.raises(StudioError, match=rf"validation data of m version 2, found {found}.* Run evaluate-model on m"),
    ):
        validation.measure_validation(subject(2, 64), None, tmp_path)


def test_a_version_gets_back_what_was_kept_with_it_but_not_what_another_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of a version may hold a file that somebody else has put there."""
    kept: dict[str, bytes] = {}

    def download(_: str, name: str, folder: Path) -> Path | None:
        (folder / name).write_bytes(kept.get(name, b""))
        return folder / name if name in kept else None

    monkeypatch.setattr(runs, "log_artifact", lambda _, path: kept.update({path.name: path.read_bytes()}))
    monkeypatch.setattr(runs, "download_artifact", download)
    matching = matched(tmp_path)
    version = replace(subject(2, 64).version, class_names=matching.source.class_names)
    assert validation.find_validation(version) is None
    validation.keep_validation(version, matching)
    found = validation.find_validation(version)
    assert found
    assert found.source == matching.source
    assert validation.find_validation(replace(version, task="pose")) is None
    kept[VALIDATION_MATCHING] = b"something else"
    assert validation.find_validation(version) is None
