"""Which images a person is asked about, what of them is shown, and what an empty round says."""

import contextlib
import io
import time
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from tasks.errors import StudioError, Superseded
from tasks.importing.importer import import_archive
from tasks.inference import publication
from tasks.inference.image_lists import ImageList
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.parameters import InferenceParams, ReviewParams
from tasks.review import steps
from tasks.review.answers import Answers, ReviewTask, sort_answers
from tasks.review.label_studio_format import to_task
from tasks.review.pictures import for_browsers
from tasks.review.rounds import ANSWERS, CLOSED, Round, ToolName, pack_round, unpack_round
from tasks.tracking import registry
from tests.tasks.review.rounds import media_source, review_round

RUN = "22222222-2222-2222-2222-222222222222"


def _source(name: str, etag: str = "1", kind: MediaKind = MediaKind.IMAGE) -> MediaSource:
    return MediaSource(name=name, bucket="media", key=name, etag=etag, size=1, kind=kind)


def test_each_input_that_nobody_is_asked_about_is_counted_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [
        *(_source("a.jpg"), _source("changed.jpg", "2"), _source("new.jpg"), _source("b.jpg"), _source("c.jpg")),
        _source("film.mp4", kind=MediaKind.VIDEO),
    ]
    answered = [_source(name) for name in ("c.jpg", "b.jpg", "a.jpg", "changed.jpg", "film.mp4")]
    monkeypatch.setattr(steps, "list_run_sources", lambda _: listed)
    monkeypatch.setattr(steps, "read_answered", lambda _: answered)
    chosen, left_out = steps._choose_images("list", "predictions", 2)
    assert [*chosen] == ["a.jpg", "b.jpg"]
    assert left_out == {
        "an image that has changed since it was predicted": 1,
        "an image without a prediction": 1,
        "an image beyond review.max_images": 1,
        "a video": 1,
    }


@pytest.mark.parametrize(
    ("model", "versions", "champion", "found"),
    [
        ("cells", [2], 2, RUN),
        ("cells", [2], None, RUN),
        ("cells", [1], 2, None),
        ("cells", [1, 2], 2, None),
        ("x", [2], 2, None),
    ],
)
def test_predictions_of_the_champion_are_used_again(
    monkeypatch: pytest.MonkeyPatch, model: str, versions: list[int], champion: int | None, found: str | None
) -> None:
    """And those of any version if there is no champion that could predict anew."""
    monkeypatch.setattr(steps, "find_predictions_run", lambda run: run)
    monkeypatch.setattr(publication, "is_published", lambda _: True)
    stored = SimpleNamespace(model_name=model, model_versions=versions)
    monkeypatch.setattr(publication, "read_summary", lambda _: stored)
    served = champion and SimpleNamespace(version=champion, class_names=["cell"])
    monkeypatch.setattr(registry, "find_champion", lambda _: served)
    monkeypatch.setattr(publication, "find_parameters", lambda _: InferenceParams())
    assert steps.find_predictions.fn(RUN, "cells", 0.25) == found


@pytest.mark.parametrize(
    ("of_a_list", "confidence", "is_used"), [(True, 0.25, True), (True, 0.1, False), (False, 0.1, True)]
)
def test_a_list_is_predicted_anew_only_if_suggestions_would_be_missing(
    monkeypatch: pytest.MonkeyPatch, of_a_list: bool, confidence: float, is_used: bool
) -> None:
    """Who names a run of inference wants that one, and is told what is missing."""
    other = "33333333-3333-3333-3333-333333333333"
    monkeypatch.setattr(steps, "find_predictions_run", lambda run: other if of_a_list else run)
    monkeypatch.setattr(publication, "is_published", lambda _: True)
    monkeypatch.setattr(publication, "read_summary", lambda _: SimpleNamespace(model_name="cells", model_versions=[2]))
    monkeypatch.setattr(publication, "find_parameters", lambda _: InferenceParams(confidence=0.25))
    champion = SimpleNamespace(version=2, class_names=["cell"])
    monkeypatch.setattr(registry, "find_champion", lambda _: champion)
    found = steps.find_predictions.fn(RUN, "cells", confidence)
    assert found == ((other if of_a_list else RUN) if is_used else None)


def _encoded(kind: str, side: int = 40) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).convert("RGB").save(file, kind)
    return file.getvalue()


def test_each_image_that_a_person_is_asked_about_comes_back_whatever_its_format_and_its_ending(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What no archive can hold is left out before anybody works, with the reason."""
    files = {
        "s3://m/film.gif": _encoded("GIF"),
        "s3://m/film.png": _encoded("JPEG"),
        "s3://m/phone.avif": _encoded("AVIF"),
        "s3://m/old.ppm": _encoded("PPM"),
        "s3://m/odd.name": _encoded("JPEG"),
        "s3://m/plain.jpg": _encoded("JPEG"),
        "s3://m/small.jpg": _encoded("JPEG", 8),
        "s3://m/text.jpg": b"no image",
    }
    store = _store(monkeypatch)
    monkeypatch.setattr(steps, "MediaStore", lambda: SimpleNamespace(read=lambda source: files[source.name]))
    found = SimpleNamespace(rows=[], width=40, height=40)
    chosen = {name: _source(name) for name in files}
    images, faults = steps._copy_images("run", chosen, dict.fromkeys(files, found), {}, 0.25)  # type: ignore[arg-type]
    assert faults == [steps._UNUSABLE] * 2
    entries = ["m/film.png", "m/2-film.jpg", "m/phone.png", "m/old.png", "m/odd.name.jpg", "m/plain.jpg"]
    assert [image.entry for image in images] == entries
    assert {f"run/review-images/{entry}" for entry in entries} == store.keys()
    assert images[0].checksum == (zlib.crc32(files["s3://m/film.gif"]), len(files["s3://m/film.gif"]))
    review = replace(review_round("detect"), images=tuple(images))
    tasks = {entry: to_task(entry, [{"result": []}], skipped=False) for entry in entries}
    answers = sort_answers(entries, tasks)
    source = steps.pack_answers.fn("run", answers, steps.answer_documents(review, answers), tmp_path)
    summary = import_archive(source, tmp_path / "made.zip", steps.import_params(review, ReviewParams()), {})
    assert (summary.images, summary.changes) == ({"train": len(entries)}, {})


def test_a_person_sees_formats_that_no_browser_shows_as_jpeg() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, "TIFF")
    name, shown = for_browsers("media/day/1.tif", file.getvalue())
    assert name == "1.tif.jpg"
    assert Image.open(io.BytesIO(shown)).format == "JPEG"
    assert for_browsers("media/day/1.PNG", b"png") == ("1.PNG", b"png")


def test_a_round_without_an_answer_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(steps.NothingToReviewError, match="retry this run"):
        steps.pack_answers.fn("run", sort_answers(["a.jpg"], {}), {}, tmp_path)


def test_the_images_that_were_set_aside_are_a_list_from_which_a_round_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names the predictions, so that the round need not predict. Corrected answers replace the list."""
    listed: dict[str, ImageList] = {}
    monkeypatch.setattr(steps, "write_image_list", listed.__setitem__)
    review = unpack_round(pack_round(review_round("detect", "a.jpg", "b.jpg", "c.jpg")))
    tasks = {entry: ReviewTask(entry=entry, set_aside=entry != "b.jpg") for entry in ("a.jpg", "b.jpg", "c.jpg")}
    steps.list_set_aside.fn(RUN, review, sort_answers([*tasks], tasks))
    assert [image.source for image in listed[RUN].images] == [media_source("a.jpg"), media_source("c.jpg")]
    assert listed[RUN].predictions_run == review.predictions_run
    steps.list_set_aside.fn(RUN, review, sort_answers([*tasks], {}))
    assert listed[RUN].images == ()


def test_a_run_that_has_listed_no_image_is_no_reason_to_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "find_image_list", lambda _: None)
    steps.require_listed_images.fn(RUN)  # a run of inference
    monkeypatch.setattr(steps, "find_image_list", lambda _: ImageList(images=()))
    with pytest.raises(steps.NothingToReviewError, match=f"images in the list of run {RUN}"):
        steps.require_listed_images.fn(RUN)


def _store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What bucket `runs` holds, in memory."""
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(steps._RUNS, "get", kept.get)
    monkeypatch.setattr(steps._RUNS, "put", lambda key, data, *_: kept.update({key: data}))
    monkeypatch.setattr(steps._RUNS, "delete", kept.pop)
    return kept


def _fail_the_check(store: dict[str, bytes], review: Round, answers: Answers, folder: Path) -> None:
    with steps.closed_round("run"):
        assert f"run/review/{CLOSED}" in store
        steps.pack_answers.fn("run", answers, steps.answer_documents(review, answers), folder)
        raise StudioError("the archive is invalid")


def test_a_round_is_open_again_if_no_archive_comes_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as after a failed check: people correct an answer, and try the run again."""
    store = _store(monkeypatch)
    store["run/review-images/a.jpg"] = b"jpeg"
    review = review_round("detect", "a.jpg", tool=ToolName.FRONT_PAGE)
    answers = sort_answers(["a.jpg"], {"a.jpg": ReviewTask(entry="a.jpg", submitted="{}")})
    with pytest.raises(StudioError, match="invalid"):
        _fail_the_check(store, review, answers, tmp_path)
    assert [*store] == ["run/review-images/a.jpg"]
    with steps.closed_round("run"):
        steps.keep_answers.fn("run", review, steps.answer_documents(review, answers))
    assert [*store] == ["run/review-images/a.jpg", f"run/review/{ANSWERS}"]


def test_a_process_that_was_superseded_opens_no_round_that_another_one_has_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = _store(monkeypatch)
    with contextlib.suppress(Superseded), steps.closed_round("run"):
        raise Superseded
    assert [*store] == [f"run/review/{CLOSED}"]


def test_another_attempt_packs_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool says how long ago something was drawn, and the clock goes on."""
    store = _store(monkeypatch)
    store["run/review-images/media/a.jpg"] = b"jpeg"
    packed = []
    for ago in ("0 minutes", "1 hour"):
        drawn = {"id": 7, "result": [], "lead_time": 4.5, "created_ago": ago}
        answers = sort_answers(["media/a.jpg"], {"media/a.jpg": to_task("media/a.jpg", [drawn], skipped=False)})
        monkeypatch.setattr(time, "time", lambda ago=ago: 1.7e9 + len(ago) * 3600)
        documents = steps.answer_documents(review_round("detect", "media/a.jpg"), answers)
        path = steps.pack_answers.fn("run", answers, documents, tmp_path)
        packed.append(path.read_bytes())
    assert packed[0] == packed[1]


@pytest.mark.parametrize("task", ["detect", "segment", "classify", "pose", "obb"])
def test_answers_are_imported_for_the_task_of_the_model_with_a_split_of_their_own(task: str) -> None:
    params = steps.import_params(review_round(task), ReviewParams(val=0.3, seed=5, groups=("{group}-*.jpg",)))
    assert (params.format, params.task, params.split) == ("label-studio", task, "new")
    assert (params.val, params.seed, params.groups) == (0.3, 5, ("{group}-*.jpg",))
