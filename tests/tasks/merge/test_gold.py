"""A gold archive is measured on, never trained on, and changes nothing else."""

from dataclasses import replace

import pytest

from tasks.merge.inputs import MergeInput
from tests.tasks.merge.inputs import codes, merged, picture, source, staying


def gold(names: str = "cat dog", task: str | None = "detect", **splits: str) -> MergeInput:
    return source("g.zip", names, splits or {"train": "p", "val": "q"}, task, (2, 3) if task == "pose" else None)


def test_all_its_images_are_of_one_split_and_none_is_trained_on() -> None:
    plan = merged(source(), gold=gold(train="p", val="q", test="rp"))
    assert plan.gold is not None
    assert "".join(sample.image[-5] for sample in plan.gold.samples) == "pqrp"
    alone = merged(source())
    assert replace(plan, gold=None) == alone
    assert plan.images == {"train": 2, "val": 1}


def test_an_image_that_two_of_its_splits_name_is_there_once() -> None:
    double = gold()
    samples = double.dataset.splits["train"]
    shared = replace(double, dataset=replace(double.dataset, splits={"train": samples, "val": samples}))
    plan = merged(source(), gold=shared)
    assert plan.gold is not None
    assert plan.gold.samples == samples


def test_copies_of_its_images_are_left_out_of_train_and_stay_in_val_and_test() -> None:
    plan = merged(source(splits={"train": "abp", "val": "cq", "test": "r"}), gold=gold(train="qr", val="p"))
    (left_out,) = plan.left_out
    assert left_out == ("a.zip/images/train/p.jpg", "train", "g.zip/images/val/p.jpg", "gold", "the same image")
    assert staying(plan) == [{"train": "ab", "val": "cq", "test": "r"}]
    assert plan.repeated == 0


def test_a_near_copy_is_left_out_also_where_another_is_nearer_to_the_gold_image() -> None:
    """Three pictures in a row: both in train are near to gold's; of the two only one would be told as its twin."""
    sources = source(splits={"train": "xyab", "val": "c"})
    near = [picture("p")._replace(thumbnail=shifted(picture("p").thumbnail, step)) for step in (2, 4)]
    images = {**sources.images, "images/train/x.jpg": near[0], "images/train/y.jpg": near[1]}
    plan = merged(replace(sources, images=images), gold=gold())
    assert [each.image for each in plan.left_out] == ["a.zip/images/train/x.jpg", "a.zip/images/train/y.jpg"]
    assert {each.kept for each in plan.left_out} == {"g.zip/images/train/p.jpg"}


def shifted(thumbnail: bytes, step: int) -> bytes:
    return bytes(min(255, value + step * (at % 3)) for at, value in enumerate(thumbnail))


def test_train_images_of_one_group_with_gold_are_left_out() -> None:
    plan = merged(source(), gold=gold(train="a"), groups=["images/{group}/b.jpg", "train/{group}.jpg"])
    assert [(each.image, each.kept_split) for each in plan.left_out] == [("a.zip/images/train/a.jpg", "gold")]
    named = merged(source(splits={"train": "ab", "val": "c"}), gold=gold(train="pb"), groups=["train/b{group}jpg"])
    assert [each.image for each in named.left_out] == ["a.zip/images/train/b.jpg"]


def test_a_train_split_that_gold_takes_whole_stops_the_merge() -> None:
    plan = merged(source(), gold=gold(train="ab"))
    assert codes(plan) == {"merge-split-empty": True}


CLASSES: dict[str, tuple[str, dict[str, str | None], tuple[int | None, ...], dict[str, bool]]] = {
    "another order": ("Dogs CAT", {}, (1, 0), {}),
    "one only": ("dog", {}, (1,), {}),
    "one more": ("dog ox", {}, (1, None), {"merge-gold": False}),
    "one more, mapped": ("dog ox", {"g.zip:ox": "cat"}, (1, 0), {}),
    "one more, dropped": ("dog ox", {"ox": None}, (1, None), {}),
    "renamed for all": ("dog cat", {"dog": "hound"}, (1, 0), {}),
    "two that are one for the others": ("cat cats", {}, (0, None), {"merge-gold": False}),
    "none": ("ox emu", {}, (None, None), {"merge-gold": True}),
    "none is left": ("dog", {"g.zip:dog": None}, (None,), {"merge-gold": True}),
    "a misspelled one": ("dog", {"g.zip:dgo": None}, (1,), {"merge-unknown-class": True}),
}


@pytest.mark.parametrize(("names", "classes", "ids", "expected"), CLASSES.values(), ids=CLASSES)
def test_its_classes_are_mapped_and_none_is_added(
    names: str, classes: dict[str, str | None], ids: tuple[int | None, ...], expected: dict[str, bool]
) -> None:
    plan = merged(source(), gold=gold(names, val="p"), classes=classes)
    assert plan.gold is not None
    assert plan.gold.class_ids == ids
    assert codes(plan) == expected
    assert plan.classes.class_names == ("cat", "hound" if "dog" in classes else "dog")


def test_it_does_not_tell_apart_what_the_archives_do_not() -> None:
    plan = merged(source(), source("b.zip", "cats dog", {"train": "v", "val": "x"}), gold=gold("cat cats"))
    assert plan.classes.class_names == ("cat", "dog")


TASKS: dict[str, tuple[str | None, str | None, bool, dict[str, bool]]] = {
    "the same": ("segment", "segment", False, {}),
    "no labels in the archives": (None, "detect", False, {}),
    "none in gold": ("detect", None, False, {}),
    "polygons for boxes": ("detect", "segment", False, {"merge-task": True}),
    "boxes from polygons": ("detect", "segment", True, {}),
    "boxes for polygons": ("segment", "detect", False, {"merge-task": True}),
    "another": ("detect", "obb", True, {"merge-task": True}),
}


@pytest.mark.parametrize(("task", "own", "boxes", "expected"), TASKS.values(), ids=TASKS)
def test_its_task_has_to_be_the_one_that_is_trained(
    task: str | None, own: str | None, boxes: bool, expected: dict[str, bool]
) -> None:
    assert codes(merged(source(task=task), gold=gold(task=own), boxes_from_polygons=boxes)) == expected


@pytest.mark.parametrize(
    ("keypoints", "flips", "expected"),
    [
        ((2, 3), [None, None, None], {}),
        ((2, 2), [None, None, None], {"merge-keypoints": True}),
        ((2, 3), [(1, 0), (1, 0), None], {}),
        ((2, 3), [None, (1, 0), (0, 1)], {"merge-keypoints": True}),
    ],
)
def test_its_keypoints_have_to_be_theirs(
    keypoints: tuple[int, int], flips: list[tuple[int, ...] | None], expected: dict[str, bool]
) -> None:
    one = source(task="pose", keypoints=(2, 3), flip_idx=flips[0])
    other = source("b.zip", "cat dog", {"train": "v", "val": "x"}, "pose", (2, 3), flip_idx=flips[1])
    measured = source("g.zip", "cat dog", {"val": "p"}, "pose", keypoints, flip_idx=flips[2])
    plan = merged(one, other, gold=measured)
    fatal = {code: fatal for code, fatal in codes(plan).items() if fatal}
    assert fatal == expected


def test_of_a_tree_images_of_other_classes_are_not_measured_on() -> None:
    tree = source(task="classify")
    plan = merged(tree, gold=gold("cat ox", "classify", val="pQ"))
    assert plan.gold is not None
    assert [sample.image for sample in plan.gold.samples] == ["images/val/cat/p.jpg"]
    assert codes(plan) == {"merge-gold": False}
    assert codes(merged(tree, gold=gold("ox emu", "classify", val="pQ"))) == {"merge-gold": True}
    only_others = merged(tree, gold=gold("cat ox", "classify", val="PQ"))
    assert (codes(only_others), only_others.gold and only_others.gold.samples) == ({"merge-gold": True}, ())
