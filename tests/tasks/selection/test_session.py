"""What a version makes of the images to choose from: who is among them, who is not, and what is kept of it."""

import inspect
import io
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import cv2
import numpy as np
import pytest
from PIL import Image
from prefect.logging import disable_run_logger

from flows.select_images import select_images
from tasks.evaluation.steps import Predictions
from tasks.inference.image_lists import ImageList
from tasks.inference.results.summary import Failure
from tasks.inference.work_plan import MediaSource
from tasks.media.errors import MediaError
from tasks.media.file_type import MediaKind
from tasks.merge.training_images import TrainingImages
from tasks.orchestration import artifacts, events
from tasks.parameters import SelectionParams, SelectionShares
from tasks.selection import known_sample, publication, session, steps
from tasks.selection.choice import NOTHING_CHOSEN
from tasks.selection.pool import Pool
from tasks.selection.session import Learnt, LookedAt, Observer, look_at_images
from tasks.storage import steps as storage_steps
from tasks.storage.ranged_reads import ObjectChangedError
from tasks.tracking.registry import ModelVersion
from tasks.training.job import PredictionJob
from tasks.training.trainer.reference import predict_chunks
from tests.tasks.export.finders import finder
from tests.tasks.selection.pools import found, image

pytestmark = pytest.mark.slow
SIDE = 64
CLASSES = ("cell", "platelet")


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


OBJECTS: dict[str, bytes | Exception] = {
    "b.png": png(1),
    "a.png": png(2),
    "broken.png": png(3)[:300],
    "changed.png": ObjectChangedError("other"),
    "copy.png": png(1),
    "film.mp4": b"film",
    "learnt.png": png(4),
    "photo.ppm": cv2.imencode(".ppm", np.full((SIDE, SIDE, 3), 9, np.uint8))[1].tobytes(),
    "unread.png": MediaError("expected at most 1 byte, found 2"),
    "learnt/1.png": png(4),
    "learnt/2.png": png(5),
    "learnt/3.png": png(6),
}


def source(name: str) -> MediaSource:
    kind = MediaKind.VIDEO if name.endswith("mp4") else MediaKind.IMAGE
    return MediaSource(name=name, bucket="media", key=name, etag='"1"', size=1, kind=kind)


class Store:
    def read(self, source: MediaSource) -> bytes:
        stored = OBJECTS[source.name]
        if isinstance(stored, Exception):
            raise stored
        return stored


def checksum(data: bytes) -> tuple[int, int]:
    return zlib.crc32(data), len(data)


def observer(folder: Path, number: int, names: tuple[str, ...] = CLASSES) -> Observer:
    folder.mkdir()
    drawn = [np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(2)]
    weights = finder(folder, "yolo11n", drawn, classes=2)
    version = ModelVersion(name="m", version=number, run_id="", task="detect", image_size=SIDE, class_names=names)
    return Observer(version=version, weights=weights)


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[LookedAt, list[str]]]:
    """Look at images whose names are in OBJECTS, in this process; returns where what was seen was kept, too."""
    prefixes: list[str] = []

    def predict(job: PredictionJob, prefix: str) -> Predictions:
        prefixes.append(prefix)
        list(predict_chunks(job))
        return Predictions(job.predictions)

    stored: dict[str, bytes] = {}
    monkeypatch.setattr(known_sample, "_RUNS", SimpleNamespace(get=stored.get, put=stored.__setitem__))
    for name in ("find_sample", "keep_sample"):
        monkeypatch.setattr(session, name, getattr(known_sample, name).fn)
    monkeypatch.setattr(steps, "MediaStore", Store)
    monkeypatch.setattr(session, "fetch_images", steps.fetch_images.fn)
    monkeypatch.setattr(session, "predict_images", predict)
    monkeypatch.setattr(session, "flow_run_id", lambda: "run")
    monkeypatch.setattr(session, "log_step", lambda *_: None)
    monkeypatch.setattr(session, "list_media_sources", lambda inputs: map(source, inputs))
    monkeypatch.setattr(
        session, "list_learnt_sources", lambda archives, _: [source(f"learnt/{each}.png") for each in archives]
    )

    def look(
        names: list[str],
        one: Observer,
        rival: Observer | None = None,
        archives: str = "123",
        asked: frozenset[tuple[int, int]] = frozenset(),
        **selection: Any,
    ) -> tuple[LookedAt, list[str]]:
        prefixes.clear()
        learnt = Learnt(
            images=TrainingImages(train=frozenset({checksum(png(4))})), is_complete=True, archives=archives, asked=asked
        )
        params = SelectionParams(device="cpu", **selection)
        folder = tmp_path / f"try-{len(list(tmp_path.iterdir()))}"
        with disable_run_logger():
            return look_at_images(names, one, rival, learnt, params, folder), list(prefixes)

    return look


def test_images_are_looked_at_but_for_those_that_nobody_should_label(
    look: Callable[..., tuple[LookedAt, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "IMAGES_ON_DISK", 2)
    one = observer(tmp_path / "one", 3)
    looked_at, kept = look([*OBJECTS][:9], one, learnt_images=2)
    pool = looked_at.pool
    assert [each.source.name for each in pool.images] == ["a.png", "b.png", "photo.ppm"]
    assert (looked_at.learnt, looked_at.repeated, looked_at.failed) == (1, 1, 4)
    assert [each.source for each in looked_at.failures] == [*("broken.png", "changed.png", "film.mp4", "unread.png")]
    for each in pool.images[:2]:
        assert len(each.found) > 0
        assert each.view_consistency is not None
        assert 0 < each.view_consistency < 1
        assert each.version_consistency is None
    assert pool.learnt is not None
    assert pool.learnt.embeddings.shape == (2, len(pool.images[0].embedding))
    assert kept[0].startswith("run/selection/version-3-3-views-")
    again, looked = look([*OBJECTS][:9], one, learnt_images=2)
    assert looked == kept[:-1]  # the sample of what it has learnt is known
    assert again.pool.learnt is not None
    assert (again.pool.learnt.embeddings == pool.learnt.embeddings).all()
    assert (again.pool.learnt.class_counts == pool.learnt.class_counts).all()
    assert len(look([*OBJECTS][:9], one, learnt_images=3)[1]) == len(kept)


def test_an_image_that_people_were_asked_about_is_not_chosen_again(
    look: Callable[..., tuple[LookedAt, list[str]]], tmp_path: Path
) -> None:
    """Under whatever name: the loop that asked may have ended without a better version."""
    asked = frozenset({checksum(png(1))})
    looked_at, _ = look(["a.png", "b.png", "copy.png"], observer(tmp_path / "one", 3), asked=asked, strategy="random")
    assert [each.source.name for each in looked_at.pool.images] == ["a.png"]
    assert (looked_at.asked, looked_at.learnt) == (2, 0)


def test_a_rival_with_the_same_weights_agrees_whatever_the_order_of_its_classes(
    look: Callable[..., tuple[LookedAt, list[str]]], tmp_path: Path
) -> None:
    one, same = observer(tmp_path / "one", 3), observer(tmp_path / "same", 4)
    (agreed,), (differing,) = (
        look(["a.png"], one, rival, strategy="disagreement")[0].pool.images
        for rival in (
            same,
            Observer(
                version=ModelVersion(**{**vars(same.version), "class_names": CLASSES[::-1]}), weights=same.weights
            ),
        )
    )
    assert agreed.version_consistency == pytest.approx(1, abs=1e-5)
    assert agreed.view_consistency is None
    assert differing.version_consistency is not None
    assert differing.version_consistency < 0.9


def test_without_an_image_to_choose_it_is_counted_what_became_of_all(
    look: Callable[..., tuple[LookedAt, list[str]]], tmp_path: Path
) -> None:
    one = Observer(
        version=ModelVersion(name="m", version=1, run_id="", task="detect", image_size=SIDE, class_names=CLASSES),
        weights=tmp_path,
    )
    told = "none among 3: 1 learnt already, 2 failed, the first failure: expected an image, found a video"
    with pytest.raises(session.NothingToChooseError, match=told) as nothing:
        look(["learnt.png", "unread.png", "film.mp4"], one)
    assert [each.source for each in nothing.value.failures] == ["film.mp4", "unread.png"]
    with pytest.raises(session.NothingToChooseError, match=r"none among 1: 1 learnt already\. Name others\.$"):
        look(["learnt.png"], one)


def test_a_version_whose_learnt_images_are_gone_has_none_to_compare_with(
    look: Callable[..., tuple[LookedAt, list[str]]], tmp_path: Path
) -> None:
    looked_at, _ = look(["a.png"], observer(tmp_path / "one", 3), archives="", strategy="diversity")
    assert looked_at.pool.learnt is None


Ended = tuple[str, list[ImageList], list[str], list[str]]


@pytest.fixture
def choose_from(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run select-images on what was looked at; returns its state, its list, what its artifact says, and its events."""
    listed: list[ImageList] = []
    shown: list[str] = []
    emitted: list[str] = []
    monkeypatch.setattr(publication, "write_image_list", lambda _, written: listed.append(written))
    monkeypatch.setattr(publication, "flow_run_id", lambda: "RUN")
    monkeypatch.setattr(publication, "log_step", lambda *_: None)
    monkeypatch.setattr(publication, "_draw_pictures", lambda *_: {})
    monkeypatch.setattr(storage_steps, "write_text", Mock(fn=lambda *_: "http://page"))
    monkeypatch.setattr(artifacts, "show_markdown", lambda _, text: shown.append(text))
    monkeypatch.setattr(events, "emit", lambda kind, *_, **__: emitted.append(kind))
    for name in ("registry", "read_ancestry", "find_asked_images", "_observer"):
        monkeypatch.setattr(f"flows.select_images.{name}", MagicMock())
    monkeypatch.setattr("flows.select_images.scratch_folder", lambda _: nullcontext(Path("unused")))

    def run(given: Pool | session.NothingToChooseError, **params: Any) -> Ended:
        looked_at: LookedAt | session.NothingToChooseError
        if isinstance(given, Pool):
            looked_at = LookedAt(pool=given, failures=(), learnt=0, asked=0, repeated=0, knows_learnt=True)
        else:
            looked_at = given
        monkeypatch.setattr(session, "look_at_images", Mock(side_effect=[looked_at]))
        ended = inspect.unwrap(select_images.fn)("shapes", ["street/"], SelectionParams(**params))
        assert ended.is_completed()
        return str(ended.name), listed, shown, emitted

    return run


ALL_KNOWN = session.NothingToChooseError("3 learnt already", [Failure(source="film.mp4", reason="found a video")])
CROWDED = Pool(images=(image(0, found(*[(0, 0.9)] * 8), [1, 0]),), learnt=None, class_names=CLASSES)


@pytest.mark.parametrize(
    ("looked_at", "params", "told"),
    [
        (ALL_KNOWN, {}, "3 learnt already"),
        (ALL_KNOWN, {}, "| film.mp4 | found a video |"),
        (CROWDED, {"boxes": 1}, "0 of 100 images are chosen: the others need more boxes"),
        (CROWDED, {"strategy": "disagreement"}, "Strategy disagreement chose nothing: there is no challenger"),
        (CROWDED, {"shares": dict.fromkeys(SelectionShares.model_fields, 0)}, "No strategy has a share"),
    ],
)
def test_a_run_that_chooses_nothing_ends_so_with_an_empty_list_and_its_reason(
    choose_from: Callable[..., Ended],
    looked_at: Any,
    params: dict[str, Any],
    told: str,
) -> None:
    """A loop goes on with what is labelled; nobody is told that images were selected."""
    state, listed, (shown,), emitted = choose_from(looked_at, **params)
    assert (state, [each.images for each in listed], emitted) == (NOTHING_CHOSEN, [()], [])
    assert told in shown
    assert "run:RUN" not in shown


def test_a_run_that_chooses_an_image_is_completed_and_tells_it(
    choose_from: Callable[..., Ended],
) -> None:
    state, (listed,), (shown,), emitted = choose_from(CROWDED, boxes=8)
    assert (state, len(listed.images), emitted) == ("Completed", 1, ["images.selected"])
    assert "run:RUN" in shown
