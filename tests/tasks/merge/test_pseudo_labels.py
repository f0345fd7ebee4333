"""Images whose labels a model has made: trained on, never measured on, and never in the way of others."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dataset.label_origins import LABEL_ORIGINS, LabelOrigin, Origin, pack_label_origins
from tasks.finding_codes import Code
from tasks.merge.conflicts import Conflict, MergeCode
from tasks.merge.fingerprint import plan_digest
from tasks.merge.pseudo_labelled_file import read_pseudo_labelled
from tasks.merge.report import plan_markdown
from tasks.merge.steps import MergeError, plan_archives, require_mergeable, write_smoke_test_subset
from tasks.merge.written_files import list_images
from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tests.benchmarks.archives import convert
from tests.tasks.dataset.archives import Content, zipped
from tests.tasks.merge.archives import Entries, checked, dataset, merge, row, tree
from tests.tasks.merge.archives import picture as picture_of
from tests.tasks.merge.inputs import codes, merged, picture, source, staying
from tests.tasks.merge.test_gold import shifted
from tests.tasks.validation.sound import by_model

SPLITS = ("train", "val", "test")
PEOPLE = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(SPLITS)), max_size=3)


@settings(deadline=None)
@given(PEOPLE, st.text("abcdefghij", min_size=1).map(set).map(sorted).map("".join), st.booleans())
def test_no_image_of_a_person_goes_for_one_of_a_model(people: list[dict[str, str]], made: str, first: bool) -> None:
    """The more images a model labels, the more near copies it has of those that people measure on."""
    drawn = [
        source(f"{number}.zip", splits={split: "".join(k for k in own if own[k] == split) for split in SPLITS})
        for number, own in enumerate([*people, {"y": "train", "z": "val"}])
    ]
    model = source("m.zip", splits={"train": made}, made=made)
    alone, beside = merged(*drawn), merged(*([model, *drawn] if first else [*drawn, model]))
    kept = staying(beside)
    of_model = kept.pop(0 if first else -1)
    assert kept == staying(alone)
    drawn_letters = {letter for own in people for letter in own}
    assert set(of_model["train"]) == set(made) - drawn_letters - {"y", "z"}
    assert {each.image[-5] for each in beside.left_out[len(alone.left_out) :]} == set(made) & drawn_letters
    assert {each.split for each in beside.left_out[len(alone.left_out) :]} <= {"train"}
    assert len(beside.pseudo_labelled.prefixes) == len(of_model["train"])


def test_one_like_an_image_to_measure_on_is_left_out_and_names_it() -> None:
    """Three of a model are nearly the same as one of val: more of them do not take it out of val."""
    model = source("m.zip", splits={"train": "pqrs"}, made="pqrs")
    near = [picture("c")._replace(thumbnail=shifted(picture("c").thumbnail, step)) for step in (1, 2, 4)]
    images = {**model.images, **{f"images/train/{name}.jpg": each for name, each in zip("pqr", near, strict=True)}}
    plan = merged(source(), replace(model, images=images))
    assert [(each.image, each.kept, each.kept_split, each.reason) for each in plan.left_out] == [
        (f"m.zip/images/train/{name}.jpg", "a.zip/images/val/c.jpg", "val", "nearly the same image") for name in "pqr"
    ]
    assert staying(plan) == [{"train": "ab", "val": "c"}, {"train": "s"}]
    other = source("m.zip", splits={"train": "cs"}, made="cs")
    other = replace(other, images={**other.images, "images/train/c.jpg": picture("q")})
    assert staying(merged(source(), other))[1] == {"train": "cs"}
    assert staying(merged(source(), other, groups=["train/{group}.jpg", "val/{group}.jpg"]))[1] == {"train": "cs"}
    assert staying(merged(source(), other, groups=["{group}.jpg"]))[1] == {"train": "s"}


def test_the_labels_of_a_person_alone_count_for_a_picture_that_both_have() -> None:
    drawn = source(splits={"train": "ab", "val": "c"})
    plan = merged(
        source("m.zip", splits={"train": "bd"}, made="bd"), drawn, source("n.zip", splits={"train": "d"}, made="d")
    )
    (left_out,) = plan.left_out
    assert left_out == (
        *("m.zip/images/train/b.jpg", "train", "a.zip/images/train/b.jpg", "train"),
        "a person has labelled the same image",
    )
    (united,) = plan.united
    assert [copy.archive for copy in united.copies] == [0, 2], "two models know different classes"
    assert staying(plan) == [{"train": "d"}, {"train": "ab", "val": "c"}, {"train": ""}]
    assert plan.pseudo_labelled.prefixes == {"00-000000"}


def test_what_is_measured_on_has_no_labels_of_a_model() -> None:
    for made in ("c", "ac"):
        assert codes(merged(source(made=made))) == {MergeCode.PSEUDO_LABELS: True}
    assert codes(merged(source(made="a"))) == {}
    gold = source("g.zip", splits={"train": "p", "val": "q"}, made="p")
    (conflict,) = merged(source(), gold=gold).conflicts
    assert (conflict.code, conflict.fatal) == (MergeCode.PSEUDO_LABELS, True)
    assert "1 of 'g.zip' that a model has labelled, such as 'images/train/p.jpg'" in conflict.message


def test_archives_that_a_model_has_labelled_need_one_that_a_person_has() -> None:
    plan = merged(source("m.zip", splits={"train": "abc"}, made="abc"))
    assert codes(plan) == {MergeCode.SPLIT_EMPTY: True}
    with pytest.raises(MergeError, match="Merge them with an archive that a person has labelled"):
        require_mergeable(plan, MergePolicy())


def test_what_a_model_has_labelled_decides_what_is_written() -> None:
    assert plan_digest(merged(source())) != plan_digest(merged(source(made="a")))


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
@pytest.mark.parametrize("quality", [95, 60])
@pytest.mark.parametrize("where", ["val", "gold"])
def test_nothing_is_measured_on_a_copy_with_the_labels_of_a_model(
    tmp_path: Path, task: str, quality: int, where: str
) -> None:
    """Of the same bytes or of another quality, with classes in another order."""
    image, label = ("images/val/4.jpg", "labels/val/4.txt")
    copy: Entries = {image: picture_of(11, quality), label: row(1, 11, task)}
    looked_at = by_model(image, row=None, origin=Origin.ACCEPTED)
    labelled = by_a_model(11, task) | {"labels/train/1.txt": f"{found_by_a_model(0, task)}\n"}

    def found(changes: Mapping[str, Content], *origins: LabelOrigin) -> list[Conflict]:
        sidecar = {LABEL_ORIGINS: pack_label_origins(origins)} if origins else {}
        drawn = dataset(1, "dog, cat", task, {**changes, **sidecar})
        others = [dataset(31, task=task), drawn] if where == "gold" else [drawn]
        archives = checked(tmp_path, labelled, *others)
        plan = plan_archives.fn(archives[:2], MergePolicy(), archives[2] if where == "gold" else None)
        return [each for each in plan.conflicts if each.code is MergeCode.PSEUDO_LABELS]

    (conflict,) = found(copy)
    assert conflict.fatal
    name = "c.zip" if where == "gold" else "b.zip"
    assert f"'{name}/{image}', which has a label of 'a.zip/images/train/0.jpg'" in conflict.message
    assert found({**copy, label: row(1, 12, task)}) == []  # as a person draws it
    assert found({**copy, label: row(0, 11, task)}) == []  # another class
    assert found({**copy, label: ""}) == []
    assert found(copy, looked_at) == []
    assert found({image: picture_of(50, quality), label: row(1, 11, task)}) == []  # another picture, thousandths
    assert len(found({image: picture_of(50, quality), label: found_by_a_model(1, task)})) == 1
    assert found({image: picture_of(50, quality), label: found_by_a_model(0, task)}) == []


@pytest.mark.parametrize("known", ["label", "image"])
def test_what_a_person_has_drawn_beside_a_label_of_a_model_is_no_copy(tmp_path: Path, known: str) -> None:
    """In the check of one archive and in the merge of two: a person may draw the same box in many frames."""
    drawn, made = found_by_a_model(0, "detect"), found_by_a_model(1, "detect").replace("0.4", "0.3")
    image, label = "images/train/0.jpg", "labels/train/0.txt"
    told = [by_model(image, row=1)] if known == "label" else [by_model(image, row=0, origin=Origin.HUMAN)]
    origins = pack_label_origins([*told, by_model(image, row=None)])
    own = dataset(1, changes={label: f"{drawn}\n{made}\n", LABEL_ORIGINS: origins})
    for copy, count in ((drawn, 0), (made, 1)):
        path = tmp_path / "own.zip"
        path.write_bytes(zipped({**own, "labels/val/4.txt": copy}))
        report = inspect_dataset(path, path.name, "0" * 64, ValidationPolicy.model_validate({})).report
        assert sum(each.code == Code.PSEUDO_LABELS_OUTSIDE_TRAIN for each in report.findings) == count
        archives = checked(tmp_path, own, dataset(31, changes={"labels/val/4.txt": copy}))
        assert len(plan_archives.fn(archives, MergePolicy()).conflicts) == count


def test_labels_of_a_model_do_not_come_by_a_copy_that_is_united_with_an_image_of_a_person(tmp_path: Path) -> None:
    """The picture of the first archive is written, with the labels of both."""
    made = found_by_a_model(1, "detect")
    model = by_a_model(11, "detect") | {"labels/train/1.txt": made}
    both = dataset(31, changes={"images/val/4.jpg": picture_of(5), "labels/val/4.txt": made})
    plan = plan_archives.fn(checked(tmp_path, dataset(1), both, model), MergePolicy())
    assert [copy.archive for union in plan.united for copy in union.copies] == [0, 1]
    (conflict,) = (each for each in plan.conflicts if each.fatal)
    assert "'b.zip/images/val/4.jpg', which has a label of 'c.zip/images/train/1.jpg'" in conflict.message


def found_by_a_model(class_id: int, task: str) -> str:
    """A box as no person draws one."""
    return convert(task, f"{class_id} 0.4123457 0.5234568 0.2345679 0.3456791")


def by_a_model(first: int, task: str) -> Entries:
    """Four pictures in train that a model has labelled."""
    entries = {name: data for name, data in dataset(first, task=task).items() if "val/" not in name}
    entries["data.yaml"] = str(entries["data.yaml"]).replace("val: images/val\n", "")
    images = [name for name in entries if name.endswith(".jpg")]
    return {**entries, LABEL_ORIGINS: pack_label_origins(by_model(image, row=None) for image in images)}


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_training_and_its_rehearsal_know_the_images(tmp_path: Path, task: str) -> None:
    drawn, labelled = (tree(1), tree(11)) if task == "classify" else (dataset(1), dataset(11))
    made = {name: data for name, data in labelled.items() if "val/" not in name}
    if task == "detect":
        made["data.yaml"] = str(made["data.yaml"]).replace("val: images/val\n", "")
    images = [name for name in made if name.endswith(".jpg")]
    made[LABEL_ORIGINS] = pack_label_origins(by_model(image, row=None) for image in images)
    plan, whole = merge(tmp_path, drawn, made)
    few = write_smoke_test_subset.fn(whole, tmp_path / "few", images=4)
    for data, count in ((whole.data, 4), (few, 2)):
        known = read_pseudo_labelled(data)
        assert [image.name[:2] for image in list_images(data, task, "train") if image in known] == ["01"] * count
    assert "4 of 8" in plan_markdown(plan)
