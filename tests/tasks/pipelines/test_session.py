"""What a pipeline hands on to the runs that it starts; with real runs: tests/flows/test_run_pipeline.py."""

import inspect
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from flows.close_loop import close_loop
from flows.run_pipeline import run_pipeline
from tasks.errors import StudioError
from tasks.inference.image_lists import ImageList
from tasks.labelling.labelled_archive import NOTHING_LABELLED
from tasks.parameters import (
    LabellingParams,
    MergePolicy,
    PromotionPolicy,
    SelectionParams,
    TrainingParams,
    ValidationPolicy,
)
from tasks.pipelines import session, steps
from tasks.pipelines.rules import ChosenArchive
from tasks.review.rounds import NOTHING_REVIEWED
from tasks.selection.choice import NOTHING_CHOSEN
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.trained_versions import ChampionTraining, TrainedVersion

REVIEWS = "loops/shapes/*-reviewed.zip"
LIKE_CHAMPION = ChampionTraining(
    base_model="yolo11m.pt",
    training=TrainingParams.model_validate({"imgsz": 1280, "overrides": {"mosaic": 0.5}}),
    merge=MergePolicy.model_validate({"classes": {"cat": "animal", "animal": None}, "partial_labels": "warn"}),
    archives={"a.zip": ["cat", "animal"], "b.zip": ["kitten"], "gold.zip": ["animal"]},
    class_names=("animal",),
)
RENAMED = {"cat": "animal", "animal": "animal", "a.zip:animal": None}  # what is labelled since keeps class animal


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The session of a pipeline whose parts do nothing; its own decisions are real."""
    pipeline = MagicMock(spec=session.PipelineSession, model_name="shapes", archives=())
    pipeline.renew_champion = partial(session.PipelineSession.renew_champion, pipeline)
    pipeline.find_reviewed = partial(session.PipelineSession.find_reviewed, pipeline)
    monkeypatch.setattr(session, "list_reviewed_archives", lambda model: [f"loops/{model}/0-reviewed.zip"])
    pipeline.train_as_champion = partial(session.PipelineSession.train_as_champion, pipeline)
    monkeypatch.setattr(session, "find_champion_training", lambda _: LIKE_CHAMPION)
    monkeypatch.setattr(session, "log_step", lambda *_: None)
    pipeline.train.return_value = TrainedVersion(number=2, promoted=False, reason="worse")
    pipeline.deploy.return_value.message = "version 2 is served"
    for flow in ("run_pipeline", "close_loop"):
        monkeypatch.setattr(f"flows.{flow}.pipeline_session", lambda _: nullcontext(pipeline))
    return pipeline


def test_the_training_checks_under_the_policy_of_the_pipeline(pipeline: MagicMock) -> None:
    """An archive may be replaced after its check: it meets the same policy again."""
    strict = ValidationPolicy(min_class_instances=50)
    inspect.unwrap(run_pipeline.fn)("shapes", ["a.zip"], policy=strict)
    pipeline.check_archives.assert_called_once_with(strict)
    assert pipeline.train.call_args.kwargs["policy"] == strict


@pytest.mark.parametrize(
    ("given", "base", "expected"),
    [
        ({}, "yolo11m.pt", LIKE_CHAMPION.training),
        ({"base_model": "yolo11n.yaml"}, "yolo11n.yaml", LIKE_CHAMPION.training),
        (
            {"training": TrainingParams.model_validate({"epochs": 5, "overrides": {"mixup": 0.1}})},
            "yolo11m.pt",
            TrainingParams.model_validate({"epochs": 5, "imgsz": 1280, "overrides": {"mixup": 0.1}}),
        ),
    ],
)
def test_a_loop_trains_as_its_champion_was_trained_but_for_what_is_named(
    pipeline: MagicMock, given: dict[str, Any], base: str, expected: TrainingParams
) -> None:
    """Else a nano at 640 pixels is set against a champion that is larger, and people have worked for it."""
    pipeline.label.return_value = session.LabelledImages(archive="labelled.zip", uncertain=None)
    inspect.unwrap(close_loop.fn)("shapes", ["street/"], **given)
    chosen = pipeline.train.call_args.kwargs
    assert (chosen["base_model"], chosen["training"]) == (base, expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, MergePolicy(classes=RENAMED, partial_labels="warn")),
        ({"merge": MergePolicy(partial_labels="mask")}, MergePolicy(classes=RENAMED)),
        ({"merge": MergePolicy(classes={})}, MergePolicy(partial_labels="warn")),
        (
            {"promotion": PromotionPolicy(gold="gold.zip")},
            MergePolicy(classes=RENAMED | {"gold.zip:animal": None}, partial_labels="warn"),
        ),
    ],
)
def test_a_loop_merges_as_for_its_champion_but_for_what_is_named(
    pipeline: MagicMock, given: dict[str, Any], expected: MergePolicy
) -> None:
    """Else classes that were one for the champion are two again, or what people have reviewed is renamed once more."""
    pipeline.archives = (ChosenArchive(name="a.zip", etag="1"),)
    pipeline.label.return_value = session.LabelledImages(archive="labelled.zip", uncertain=None)
    inspect.unwrap(close_loop.fn)("shapes", ["street/"], **given)
    assert pipeline.train.call_args.kwargs["merge"] == expected


def test_a_loop_renames_as_its_champion_did_if_nobody_knows_the_classes_of_its_archives(
    pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan of a merge of an earlier release does not tell them."""
    monkeypatch.setattr(session, "find_champion_training", lambda _: replace(LIKE_CHAMPION, archives={}))
    pipeline.archives = (ChosenArchive(name="a.zip", etag="1"),)
    pipeline.label.return_value = session.LabelledImages(archive="labelled.zip", uncertain=None)
    inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert pipeline.train.call_args.kwargs["merge"] == LIKE_CHAMPION.merge


def test_a_loop_without_a_champion_trains_by_the_defaults(pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is named may label, too."""
    monkeypatch.setattr(session, "find_champion_training", lambda _: None)
    pipeline.label.return_value = session.LabelledImages(archive="labelled.zip", uncertain=None)
    inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    chosen = pipeline.train.call_args.kwargs
    assert (chosen["base_model"], chosen["training"], chosen["merge"]) == (
        *("yolo11n.pt", TrainingParams()),
        MergePolicy(),
    )


@pytest.mark.parametrize(
    ("archive", "uncertain", "learnt", "promoted", "state"),
    [
        ("labelled.zip", "run:1", ["champion+", REVIEWS, "labelled.zip", "reviewed.zip"], True, "Completed"),
        ("labelled.zip", None, ["champion+", REVIEWS, "labelled.zip"], False, "Not better"),
        (None, "run:1", ["champion+", REVIEWS, "reviewed.zip"], True, "Completed"),
        (None, None, None, True, "Nothing new"),
    ],
)
def test_a_loop_learns_from_what_the_model_is_sure_of_and_from_all_that_people_corrected(
    pipeline: MagicMock,
    archive: str | None,
    uncertain: str | None,
    learnt: list[str] | None,
    promoted: bool,
    state: str,
) -> None:
    pipeline.label.return_value = session.LabelledImages(archive=archive, uncertain=uncertain)
    pipeline.review.return_value = "reviewed.zip"
    pipeline.train.return_value = TrainedVersion(number=2, promoted=promoted, reason="worse")
    ended = inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert [call.args[0] for call in pipeline.review.call_args_list] == ([[uncertain]] if uncertain else [])
    assert [call.args[0] for call in pipeline.choose_archives.call_args_list] == ([learnt] if learnt else [])
    assert pipeline.deploy.call_count == (state == "Completed")
    assert ended.name == state


@pytest.mark.parametrize(
    ("listed", "state", "asked", "reviewed"),
    [
        ("run:1", "Completed", True, "loops/shapes/01234567-reviewed.zip"),
        ("run:1", NOTHING_REVIEWED, True, None),  # all images were skipped, or none could be shown
        (None, NOTHING_CHOSEN, False, None),  # all are known, no strategy speaks for one, or the budget is too small
    ],
)
def test_a_loop_whose_review_keeps_nothing_goes_on_with_what_is_labelled(
    pipeline: MagicMock,
    monkeypatch: pytest.MonkeyPatch,
    listed: str | None,
    state: str,
    asked: bool,
    reviewed: str | None,
) -> None:
    monkeypatch.setattr(steps, "find_listed_images", lambda _: listed)
    monkeypatch.setattr(steps, "require_archive", lambda archive: archive)
    pipeline._run = "01234567-89ab"
    pipeline._do.return_value.state = state
    pipeline.review = partial(session.PipelineSession.review, pipeline)
    pipeline.label.return_value = session.LabelledImages(archive="labelled.zip", uncertain="run:0")
    inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert [call.args[1] for call in pipeline._do.call_args_list] == ["select-images", "review-images"][: 1 + asked]
    (learnt,) = [call.args[0] for call in pipeline.choose_archives.call_args_list]
    assert learnt == ["champion+", REVIEWS, "labelled.zip", *([reviewed] if reviewed else [])]


def test_a_list_that_is_gone_is_not_taken_for_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is tried again after a clean-up would skip its review."""
    monkeypatch.setattr(steps, "find_image_list", lambda _: ImageList(images=()))
    assert steps.find_listed_images.fn("1") is None
    monkeypatch.setattr(steps, "find_image_list", lambda _: None)
    with pytest.raises(StudioError, match=r"Expected the list of images of flow run 1, found none\."):
        steps.find_listed_images.fn("1")


@pytest.mark.parametrize("state", ["Completed", NOTHING_LABELLED])
def test_an_archive_of_the_loop_that_is_gone_is_not_taken_for_nothing_labelled(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop begins again when people have answered: it would go on without what the model has labelled."""
    pipeline = MagicMock(spec=session.PipelineSession, model_name="shapes", _run="01234567-89ab")
    pipeline._do.return_value.state = state
    monkeypatch.setattr(steps, "_head", lambda _: None)
    monkeypatch.setattr(steps, "find_listed_images", lambda _: "run:1")
    monkeypatch.setattr(steps, "require_archive", steps.require_archive.fn)
    label = partial(session.PipelineSession.label, pipeline, ["street/"], LabellingParams())
    if state == NOTHING_LABELLED:
        assert label() == session.LabelledImages(archive=None, uncertain="run:1")
    else:
        with pytest.raises(
            StudioError, match=r"archive loops/shapes/01234567-labelled\.zip.*found that it was deleted"
        ):
            label()


@pytest.mark.parametrize("begun", [None, 1.7e9])
def test_a_loop_looks_for_the_versions_of_its_selection_before_anything_is_labelled(
    pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch, begun: float | None
) -> None:
    """Else it fails when the model has labelled. One that has begun goes on without a version that has gone since."""

    def require_versions(*_: object) -> None:
        raise TrackingError("Expected version 9 of shapes, found none.")

    monkeypatch.setattr(session, "first_attempt_start", lambda: begun)
    monkeypatch.setattr(steps, "require_versions", require_versions)
    pipeline.require_versions = partial(session.PipelineSession.require_versions, pipeline)
    pipeline.label.return_value = session.LabelledImages(archive=None, uncertain=None)
    run = partial(inspect.unwrap(close_loop.fn), "shapes", ["street/"], selection=SelectionParams(version=9))
    if begun is None:
        with pytest.raises(TrackingError):
            run()
    else:
        run()
    assert pipeline.label.called is (begun is not None)


@pytest.mark.parametrize(("named", "chooses"), [(None, 3), (4, 4)])
def test_the_version_that_labels_also_chooses_unless_another_is_named(
    pipeline: MagicMock, named: int | None, chooses: int
) -> None:
    """A model without a champion can have a loop by a version that is named once."""
    labelling, selection = LabellingParams(version=3), SelectionParams(version=named, images=7)
    inspect.unwrap(close_loop.fn)("shapes", ["street/"], labelling=labelling, selection=selection)
    (handed,) = pipeline.require_versions.call_args.args
    assert (handed.version, handed.images) == (chooses, 7)
    assert pipeline.review.call_args.args[1] == handed


@pytest.mark.parametrize(
    ("selection", "asked"),
    [
        ({}, ["champion", "rival None of 1"]),
        ({"version": 3, "other_version": 2}, ["version 3", "rival 2 of 3"]),
        ({"version": 3, "strategy": "drift", "other_version": 2}, ["version 3"]),
    ],
)
def test_the_versions_that_a_selection_compares_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, selection: dict[str, Any], asked: list[str]
) -> None:
    told: list[str] = []

    def find(number: int, name: str) -> SimpleNamespace:
        told.append(name)
        return SimpleNamespace(version=number)

    registry = SimpleNamespace(
        find_version=Mock(fn=lambda _, number: find(number, f"version {number}")),
        find_champion=Mock(fn=lambda _: find(1, "champion")),
        find_rival=Mock(fn=lambda version, other: find(0, f"rival {other} of {version.version}")),
    )
    monkeypatch.setattr(steps, "registry", registry)
    steps.require_versions.fn("shapes", SelectionParams(**selection))
    assert told == asked
