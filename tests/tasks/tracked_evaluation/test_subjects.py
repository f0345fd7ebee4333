"""What several versions are evaluated on is made once, and what a version has learnt is known."""

import hashlib
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from prefect.logging import disable_run_logger

from tasks.errors import StudioError
from tasks.evaluation import steps
from tasks.evaluation.labelled_images import EvaluationSet, unpack_split
from tasks.merge.steps import plan_archives
from tasks.merge.training_images import (
    TrainingImages,
    pack_training_images,
    training_images,
    unpack_training_images,
)
from tasks.parameters import EvaluationParams, LabelErrorParams, MergePolicy, TrainingParams
from tasks.tracked_evaluation import out_of_fold, subjects
from tasks.tracked_training.inputs import BaseModel
from tasks.tracking import registry
from tasks.tracking.ancestry import Ancestry
from tasks.tracking.registry import ModelVersion
from tests.tasks.dataset.archives import zipped
from tests.tasks.evaluation.test_version_evaluation import CLASSES, perfect, unpacked
from tests.tasks.merge.archives import Entries, checked, dataset, picture, row

NOTHING = Ancestry(archives={}, base_model="yolo11n.pt", base_digest="", images=TrainingImages(), tells_images=True)


def subject(number: int, image_size: int, ancestry: Ancestry = NOTHING) -> subjects.Subject:
    version = ModelVersion(
        name="m", version=number, run_id="", task="detect", image_size=image_size, class_names=CLASSES
    )
    return subjects.Subject(version=version, ancestry=ancestry)


def test_versions_of_one_image_size_share_the_corrupted_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = unpacked(tmp_path, "detect")
    made: Counter[int] = Counter()

    def corrupt(images: Any, count: int, side: int, *_: object) -> Any:
        made[side] += 1
        return replace(images, images=images.images[:count] * 46)

    monkeypatch.setattr(steps, "corrupt_images", corrupt)
    monkeypatch.setattr(steps, "predict", lambda images, *_: perfect(images, "detect"))
    monkeypatch.setattr(registry, "fetch_weights", lambda *_: tmp_path)
    asked = [subject(1, 64), subject(2, 96), subject(3, 64)]
    with disable_run_logger():
        found = subjects.evaluate_subjects(asked, data, EvaluationParams(corrupted_images=2), tmp_path)
    assert [(each.version, each.robustness and each.robustness.images) for each in found] == [(1, 2), (2, 2), (3, 2)]
    assert made == {64: 1, 96: 1}


def test_an_archive_under_two_spellings_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = unpacked(tmp_path, "detect")
    fetched: list[str] = []
    monkeypatch.setattr(subjects, "fetch_valid_archive", lambda archive, *_: fetched.append(archive))
    monkeypatch.setattr(steps, "unpack_images", lambda *_: data)
    with disable_run_logger():
        found = subjects.fetch_images(["s3://datasets/a.zip", "a.zip"], "val", {}, tmp_path)
    assert (fetched, len(found.images)) == (["a.zip"], len(data.images))


@pytest.mark.parametrize(
    ("archives", "learnt"),
    [
        ({"a.zip": {"d1"}}, True),
        ({"renamed.zip": {"d0", "d1"}}, True),
        ({"a.zip": {"its bytes before a label was mended"}}, True),
        ({"b.zip": {"d2"}}, False),
    ],
)
def test_a_version_has_learnt_an_archive_by_its_name_or_its_bytes(
    tmp_path: Path, archives: dict[str, set[str]], learnt: bool
) -> None:
    data = unpacked(tmp_path, "detect")
    kept = {name: frozenset(digests) for name, digests in archives.items()}
    judge = subject(1, 64, replace(NOTHING, archives=kept))
    assert judge.trained_on(data) == (["a.zip"] if learnt else [])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> subjects.Subject:
    """Version 3, trained on four images of seeds 0 to 3 and measured on those of 4 and 5."""
    plan = plan_archives.fn(checked(tmp_path_factory.mktemp("trained"), dataset(0)), MergePolicy())
    kept = unpack_training_images(pack_training_images(training_images(plan)))
    return subject(3, 64, replace(NOTHING, images=kept))


def packed(folder: Path, seeds: dict[str, list[int]]) -> EvaluationSet:
    """Split `val` of an archive of another name, with other names in it, that is not compressed."""
    entries: Entries = {"data.yaml": "train: images/a\nval: images/b\nnames: [cat, dog]\n"}
    for split, own in seeds.items():
        for seed in own:
            name = f"{split}/photo-{seed}"
            entries |= {f"images/{name}.jpg": picture(seed), f"labels/{name}.txt": row(0, seed)}
    (archive,) = checked(folder, entries)
    archive.path.write_bytes(zipped(entries, zipfile.ZIP_STORED))
    return unpack_split(replace(archive, name="other.zip", digest="d2"), "val", folder / "images")


@pytest.mark.parametrize(
    ("train", "val", "shared", "learnt"),
    [
        ([0, 1, 2, 3], [4, 5], "6 of the 6 images", False),  # the archive itself: its val was never learnt
        ([10], [3], "1 of the 2 images", True),
        ([2], [10], "1 of the 2 images", False),
        ([5], [10], "1 of the 2 images", False),
        ([10], [11], None, False),
    ],
)
def test_images_are_known_under_another_name_in_an_archive_packed_in_another_way(
    train: list[int], val: list[int], shared: str | None, learnt: bool, trained: subjects.Subject, tmp_path: Path
) -> None:
    data = packed(tmp_path, {"a": train, "b": val})
    told = [f"version 3 has seen {shared} of 'other.zip' in training"] if shared else []
    assert trained.describe_trained_on(data) == told
    assert trained.trained_on(data) == ["other.zip"] * len(told)
    assert trained.may_have_learnt(data) == learnt
    promised = EvaluationParams(max_misses={"cat": 0.1})
    subjects.require_measurable([trained], data, EvaluationParams())
    if shared:
        with pytest.raises(
            StudioError, match=f"never trained on for evaluation.max_misses, found that version 3 has seen {shared}"
        ):
            subjects.require_measurable([trained], data, promised)
    else:
        subjects.require_measurable([trained], data, promised)


def test_a_promise_that_cannot_be_given_is_refused_before_anything_is_predicted(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    with pytest.raises(StudioError, match=r"found \['bird'\], which a.zip, split val lacks"):
        subjects.require_measurable([subject(1, 64)], data, EvaluationParams(max_misses={"bird": 0.1}))


def test_a_version_that_does_not_say_its_images_is_told_once(tmp_path: Path) -> None:
    data = unpacked(tmp_path, "detect")
    assert subject(1, 64).remarks(data, "so it is") == []
    (unknown,) = subject(1, 64, replace(NOTHING, tells_images=False)).remarks(data, "so it is")
    assert unknown.startswith("Not all images that version 1 has learnt are known")
    learnt = replace(NOTHING, archives={"a.zip": frozenset({"d1"})}, tells_images=False)
    assert subject(1, 64, learnt).remarks(data, "so it is") == [
        "Version 1 has learnt an archive with the name or the bytes of 'a.zip': so it is.",
        unknown,
    ]


@pytest.mark.parametrize("base", ["", "models:/m/1", "models:/m@champion"])
def test_folds_begin_with_no_version(base: str) -> None:
    judge = subject(2, 64, replace(NOTHING, base_model=base))
    with pytest.raises(StudioError, match="Expected a base model of m version 2 that has seen no archive"):
        out_of_fold.find_unlearnt_base(judge)
    assert out_of_fold.find_unlearnt_base(subject(2, 64)) == "yolo11n.pt"


UNKNOWN_BASE = (
    "Nobody knows what 'old.pt' of bucket base-models has learnt: the judges agree with labels that it has learnt, "
    "wrong ones too."
)


@pytest.mark.parametrize(
    ("fetched", "told"),
    [
        (None, []),  # an architecture, or official weights
        (b"weights", [UNKNOWN_BASE]),
        (b"others", [f"{UNKNOWN_BASE} It is another file than the version began with."]),
    ],
)
def test_what_the_judges_of_folds_may_have_learnt_is_told(
    fetched: bytes | None, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old.pt"
    if fetched:
        file.write_bytes(fetched)

    def train(*_: object) -> list[object]:
        file.write_bytes(fetched or b"official weights, which the first training downloads")
        return []

    monkeypatch.setattr(out_of_fold, "fetch_base_model", lambda *_: BaseModel("old.pt", str(file), "old.pt"))
    monkeypatch.setattr(out_of_fold, "read_policies", lambda _: (TrainingParams(), MergePolicy()))
    monkeypatch.setattr(out_of_fold, "merge_steps", MagicMock())
    monkeypatch.setattr(out_of_fold, "plan_folds", train)
    ancestry = replace(NOTHING, base_digest=hashlib.sha256(b"weights").hexdigest(), tells_images=False)
    data, asked = unpacked(tmp_path, "detect"), LabelErrorParams(out_of_fold="always")
    *others, unknown = out_of_fold.predict_unseen(subject(1, 64, ancestry), MagicMock(), data, asked, tmp_path).remarks
    assert others == told
    assert unknown.startswith("Not all images that version 1 has learnt are known")


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_labels_of_a_class_that_the_version_does_not_know_are_told_and_never_missing(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = unpacked(tmp_path, task)
    first = perfect(data, task)[0]
    monkeypatch.setattr(steps, "predict", lambda *_: [first] * len(data.images))  # a cat, also where no cat is labelled
    monkeypatch.setattr(registry, "fetch_weights", lambda *_: tmp_path)
    judge = subject(1, 64)
    judge = replace(judge, version=replace(judge.version, task=task, class_names=("cat",)))
    asked = LabelErrorParams(min_score=0.1)
    predicted = out_of_fold.predict_unseen(judge, MagicMock(), data, asked, tmp_path)
    assert predicted.remarks == (f"Labels of {[CLASSES[1]]} are not judged: the version does not know these classes.",)
    assert out_of_fold.judge_labels.fn(predicted, asked).errors == []
    bare = replace(data, images=tuple(replace(each, rows=each.rows[: not at]) for at, each in enumerate(data.images)))
    found = out_of_fold.judge_labels.fn(replace(predicted, data=bare), asked).errors
    assert [each.kind for each in found] == ["missing"] * 3
