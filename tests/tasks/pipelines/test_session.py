"""What a pipeline hands on to the runs that it starts; with real runs: tests/flows/test_run_pipeline.py."""

import inspect
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock
from uuid import UUID

import pytest

from flows.close_loop import close_loop
from flows.run_pipeline import run_pipeline
from tasks.errors import StudioError
from tasks.inference.image_lists import ImageList
from tasks.labelling.labelled_archive import NOTHING_LABELLED
from tasks.orchestration.outcome import NOTHING_NEW
from tasks.parameters import (
    LabellingParams,
    MergePolicy,
    PromotionPolicy,
    SelectionParams,
    TrainingParams,
    ValidationPolicy,
)
from tasks.pipelines import session, steps
from tasks.pipelines.rules import ChosenArchive, PipelineError, PipelinePlan
from tasks.review.rounds import NOTHING_REVIEWED
from tasks.selection.choice import NOTHING_CHOSEN
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.registry import ADDRESS
from tasks.tracking.trained_versions import ChampionTraining, TrainedVersion

REVIEWS = "loops/shapes/*-reviewed.zip"
LIKE_CHAMPION = ChampionTraining(
    base_model="yolo11m.pt",
    training=TrainingParams.model_validate({"imgsz": 1280, "overrides": {"mosaic": 0.5}}),
    merge=MergePolicy.model_validate({"classes": {"cat": "animal", "animal": None}, "partial_labels": "warn"}),
    archives=frozenset({"a.zip", "b.zip", "gold.zip"}),
    class_names=("animal",),
)
CLASS_NAMES = {"a.zip": ("cat", "animal"), "new.zip": ("cat",), "since.zip": ("animal",), "gold.zip": ("animal",)}
RENAMED = {"cat": "animal", "animal": "animal", "a.zip:animal": None}  # what is labelled since keeps class animal


def labelled(archive: str | None, listed: str | None = None) -> session.LabelledImages:
    return session.LabelledImages(archive=archive, listed=listed, sentence="5 images")


def planned(*names: str, gold: str | None = None) -> PipelinePlan:
    archives = [ChosenArchive(name=name, etag="1") for name in names]
    return PipelinePlan(archives=tuple(archives), gold=ChosenArchive(name=gold, etag="1") if gold else None)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """The session of a pipeline whose parts do nothing; its own decisions are real."""
    pipeline = MagicMock(spec=session.PipelineSession, model_name="shapes", plan=PipelinePlan())
    pipeline._checks = dict.fromkeys(CLASS_NAMES, UUID(int=0))
    pipeline.renew_champion = partial(session.PipelineSession.renew_champion, pipeline)
    pipeline.find_reviewed = partial(session.PipelineSession.find_reviewed, pipeline)
    monkeypatch.setattr(session, "list_reviewed_archives", lambda model: [f"loops/{model}/0-reviewed.zip"])
    pipeline._find_champion = partial(session.PipelineSession._find_champion, pipeline)
    pipeline.train_as_champion = partial(session.PipelineSession.train_as_champion, pipeline)
    monkeypatch.setattr(session, "find_champion_training", lambda _: LIKE_CHAMPION)
    monkeypatch.setattr(steps, "read_class_names", lambda checks: {each: CLASS_NAMES[each] for each in checks})
    monkeypatch.setattr(session, "log_step", lambda *_: None)
    pipeline.review.return_value = session.ReviewedImages(archive="reviewed.zip", sentence="3 images")
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
    pipeline.label.return_value = labelled("labelled.zip")
    inspect.unwrap(close_loop.fn)("shapes", ["street/"], **given)
    chosen = pipeline.train.call_args.kwargs
    assert (chosen["base_model"], chosen["training"]) == (base, expected)


@pytest.mark.parametrize(
    ("plan", "given", "expected"),
    [
        (planned("a.zip"), {}, MergePolicy(classes=RENAMED, partial_labels="warn")),
        (planned("a.zip"), {"merge": MergePolicy(partial_labels="mask")}, MergePolicy(classes=RENAMED)),
        (planned("a.zip"), {"merge": MergePolicy(classes={})}, MergePolicy(partial_labels="warn")),
        (
            planned("a.zip", gold="gold.zip"),
            {"promotion": PromotionPolicy(gold="s3://datasets/gold.zip")},
            MergePolicy(classes=RENAMED | {"gold.zip:animal": None}, partial_labels="warn"),
        ),
        (
            planned("new.zip", "since.zip"),
            {},
            MergePolicy(classes={"cat": "animal", "animal": "animal"}, partial_labels="warn"),
        ),
        (planned("since.zip"), {}, MergePolicy(classes={"animal": "animal"}, partial_labels="warn")),
    ],
)
def test_a_loop_merges_as_for_its_champion_but_for_what_is_named(
    pipeline: MagicMock, plan: PipelinePlan, given: dict[str, Any], expected: MergePolicy
) -> None:
    """Else classes that were one for the champion are two again, or what people have reviewed is renamed once more."""
    pipeline.plan = plan
    pipeline.label.return_value = labelled("labelled.zip")
    inspect.unwrap(close_loop.fn)("shapes", ["street/"], **given)
    assert pipeline.train.call_args.kwargs["merge"] == expected


def test_a_loop_renames_as_its_champion_did_if_nobody_knows_the_classes_of_its_archives(
    pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan of a merge of an earlier release does not tell them."""
    monkeypatch.setattr(session, "find_champion_training", lambda _: replace(LIKE_CHAMPION, archives=frozenset()))
    pipeline.plan = planned("a.zip")
    pipeline.label.return_value = labelled("labelled.zip")
    inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert pipeline.train.call_args.kwargs["merge"] == LIKE_CHAMPION.merge


def test_a_loop_without_a_champion_trains_by_the_defaults(pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is named may label, too."""
    monkeypatch.setattr(session, "find_champion_training", lambda _: None)
    pipeline.label.return_value = labelled("labelled.zip")
    inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    chosen = pipeline.train.call_args.kwargs
    assert (chosen["base_model"], chosen["training"], chosen["merge"]) == (
        *("yolo11n.pt", TrainingParams()),
        MergePolicy(),
    )


@pytest.mark.parametrize(
    ("archive", "listed", "learnt", "promoted", "state"),
    [
        ("labelled.zip", "run:1", ["champion+", REVIEWS, "labelled.zip", "reviewed.zip"], True, "Completed"),
        ("labelled.zip", None, ["champion+", REVIEWS, "labelled.zip"], False, "Not better"),
        (None, "run:1", ["champion+", REVIEWS, "reviewed.zip"], True, "Completed"),
        (None, None, None, True, "Nothing to learn"),
    ],
)
def test_a_loop_learns_from_what_the_model_is_sure_of_and_from_all_that_people_corrected(
    pipeline: MagicMock,
    archive: str | None,
    listed: str | None,
    learnt: list[str] | None,
    promoted: bool,
    state: str,
) -> None:
    pipeline.label.return_value = labelled(archive, listed)
    pipeline.train.return_value = TrainedVersion(number=2, promoted=promoted, reason="worse")
    ended = inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert [call.args[0] for call in pipeline.review.call_args_list] == ([[listed]] if listed else [])
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
    pipeline.label.return_value = labelled("labelled.zip", "run:0")
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
    pipeline._do.return_value = SimpleNamespace(id=0, state=state, message="5 images")
    monkeypatch.setattr(steps, "_head", lambda _: None)
    monkeypatch.setattr(steps, "find_listed_images", lambda _: "run:1")
    monkeypatch.setattr(steps, "require_archive", steps.require_archive.fn)
    label = partial(session.PipelineSession.label, pipeline, ["street/"], LabellingParams())
    if state == NOTHING_LABELLED:
        assert label() == labelled(None, "run:1")
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
    pipeline.label.return_value = labelled(None)
    run = partial(inspect.unwrap(close_loop.fn), "shapes", ["street/"], selection=SelectionParams(version=9))
    if begun is None:
        with pytest.raises(TrackingError):
            run()
    else:
        run()
    assert pipeline.label.called is (begun is not None)


@pytest.mark.parametrize("chosen", [False, True])
def test_a_loop_looks_for_all_that_it_trains_on_before_anything_is_labelled(
    pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    """Else people answer in vain. A loop that has chosen its archives goes on with these."""
    asked: list[object] = []

    def find_archives(*given: object) -> None:
        asked.append(given)
        raise PipelineError("Expected an archive at s3://datasets/absent.zip, found none.")

    monkeypatch.setattr(steps, "has_chosen", lambda _: chosen)
    monkeypatch.setattr(steps, "require_base_model", asked.append)
    monkeypatch.setattr(steps, "find_archives", find_archives)
    pipeline._run = "1"
    pipeline.require_training = partial(session.PipelineSession.require_training, pipeline)
    pipeline.label.return_value = labelled(None)
    run = partial(inspect.unwrap(close_loop.fn), "shapes", ["street/"], archives=["absent.zip"])
    if chosen:
        run()
    else:
        with pytest.raises(PipelineError):
            run(promotion=PromotionPolicy(gold="gold.zip"))
    assert asked == ([] if chosen else ["yolo11m.pt", ("shapes", ["absent.zip", REVIEWS], "gold.zip")])
    assert pipeline.label.called is chosen


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("yolo11n.yaml", None),
        ("s3://base-models/old.pt", None),
        ("models:/cells@champion", None),
        ("gone.pt", r"found 'gone\.pt', which is none of them"),
        ("s3://datasets/old.pt", "which is none of them"),
        ("models:/cells/9", "Expected version 9 of cells"),
        ("sam_b.pt", "a model that can be trained"),
    ],
)
def test_a_base_model_that_no_training_would_find_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, fault: str | None
) -> None:
    def find(model: str, version: int | str) -> None:
        if (model, version) != ("cells", "champion"):
            raise TrackingError(f"Expected version {version} of {model}, found none.")

    monkeypatch.setattr(steps, "registry", SimpleNamespace(ADDRESS=ADDRESS, find_version=Mock(fn=find)))
    monkeypatch.setattr(steps, "_BASE_MODELS", Mock(exists=lambda key: key == "old.pt"))
    with pytest.raises(StudioError, match=fault) if fault else nullcontext():
        steps.require_base_model.fn(name)


def test_the_gold_archive_is_checked_as_a_training_does(pipeline: MagicMock) -> None:
    strict = ValidationPolicy(min_class_instances=50)
    pipeline.plan = planned("a.zip", gold="gold.zip")
    session.PipelineSession.check_archives(pipeline, strict)
    checked = [(call.args[0][0].name, call.args[1]) for call in pipeline._check.call_args_list]
    assert checked == [("a.zip", strict), ("gold.zip", ValidationPolicy())]


@pytest.mark.parametrize(
    ("listed", "state", "told"),
    [
        (None, NOTHING_CHOSEN, "5 images are known. Select-images has found nothing"),
        ("run:1", NOTHING_REVIEWED, "5 images are known. Review-images has found nothing"),
    ],
)
def test_a_loop_that_learns_nothing_says_what_became_of_the_images(
    pipeline: MagicMock, monkeypatch: pytest.MonkeyPatch, listed: str | None, state: str, told: str
) -> None:
    """Its name is not that of a watch with nothing to do, which lists of runs leave out."""
    monkeypatch.setattr(steps, "find_listed_images", lambda _: listed)
    pipeline._run = "01234567-89ab"
    pipeline._do = lambda _, flow, *__: SimpleNamespace(
        id=1, state=state, message=f"{flow.capitalize()} has found nothing"
    )
    pipeline.review = partial(session.PipelineSession.review, pipeline)
    pipeline.label.return_value = session.LabelledImages(archive=None, listed="run:0", sentence="5 images are known")
    ended = inspect.unwrap(close_loop.fn)("shapes", ["street/"])
    assert (ended.type.value, ended.name) == ("COMPLETED", "Nothing to learn")
    assert ended.name != NOTHING_NEW
    assert told in str(ended.message)


def test_every_fault_of_the_archives_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion that was registered from weights has none of its own."""

    def find(_: str) -> None:
        raise TrackingError("Expected shapes version 1 to name the archives of its training, found none.")

    monkeypatch.setattr(steps, "find_champion_archives", Mock(fn=find))
    monkeypatch.setattr(steps, "_head", lambda _: None)
    with pytest.raises(PipelineError) as told:
        steps.find_archives.fn("shapes", ["champion+", "absent.zip"], "gone.zip")
    for fault in ("shapes version 1", "s3://datasets/absent.zip", "promotion.gold at s3://datasets/gone.zip"):
        assert fault in str(told.value)


def test_an_address_of_the_gold_archive_is_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its key the champion knows what it calls its classes."""
    monkeypatch.setattr(steps, "head_object", lambda *_: SimpleNamespace(etag='"1"'))
    found = steps.find_archives.fn("shapes", ["a.zip"], "s3://datasets/gold.zip")
    assert found == planned("a.zip", gold="gold.zip")


@pytest.mark.parametrize(("named", "chooses"), [(None, 3), (4, 4)])
def test_the_version_that_labels_also_chooses_unless_another_is_named(
    pipeline: MagicMock, named: int | None, chooses: int
) -> None:
    """A model without a champion can have a loop by a version that is named once."""
    labelling, selection = LabellingParams(version=3), SelectionParams(version=named, images=7)
    pipeline.label.return_value = labelled(None, "run:1")
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


@pytest.mark.parametrize(
    ("archive", "val", "remark"),
    [
        ("reviewed.zip", 0.0, ". It was measured on none of the images that people have corrected: review.val is 0"),
        ("reviewed.zip", 0.2, ""),
        (None, 0.2, ". People have corrected nothing: all 3 images were skipped"),
    ],
)
def test_a_loop_says_what_its_version_was_not_measured_on(archive: str | None, val: float, remark: str) -> None:
    reviewed = session.ReviewedImages(archive=archive, sentence="all 3 images were skipped")
    assert reviewed.remark_on("Version 2 is served.", val) == f"Version 2 is served{remark}"
