"""What a plan decides, and what it tells of."""

from dataclasses import replace

import pytest

from tasks.dataset.layout import Dataset, LabelledImage
from tasks.merge.conflicts import MergeCode
from tasks.merge.inputs import MergeInput
from tasks.merge.plan import blocking_conflicts
from tasks.merge.split_leakage import ExcludedImage
from tasks.parameters import MergePolicy
from tests.tasks.merge.inputs import codes, merged, source, staying


def other(names: str = "cat dog", task: str | None = "detect", **splits: str) -> MergeInput:
    return source("b.zip", names, splits or {"train": "vw", "val": "x"}, task, (2, 3) if task == "pose" else None)


def test_archives_in_accord_have_no_conflict() -> None:
    plan = merged(source(), other("dog cat"))
    assert not plan.conflicts
    assert not plan.left_out
    assert plan.archives == ("a.zip", "b.zip")
    assert plan.names == (("cat", "dog"), ("dog", "cat"))
    assert (plan.task, plan.keypoints, plan.repeated) == ("detect", None, 0)
    assert plan.classes.class_ids == ((0, 1), (1, 0))
    assert plan.images == {"train": 4, "val": 2}
    assert staying(plan) == [{"train": "ab", "val": "c"}, {"train": "vw", "val": "x"}]


def test_one_archive_alone_is_a_merge_too() -> None:
    plan = merged(source())
    assert plan.conflicts == ()
    assert plan.images == {"train": 2, "val": 1}


TASKS: dict[str, tuple[list[str | None], bool, str | None]] = {
    "one": (["detect", "detect"], False, "detect"),
    "boxes and polygons": (["detect", "segment"], False, None),
    "boxes from polygons": (["detect", "segment"], True, "detect"),
    "boxes from polygons alone": (["segment", "segment"], True, "detect"),
    "polygons alone": (["segment", "segment"], False, "segment"),
    "no boxes from keypoints": (["detect", "pose"], True, None),
    "no boxes from oriented ones": (["segment", "obb"], True, None),
    "three": (["detect", "segment", "obb"], True, None),
    "a tree": (["detect", "classify"], False, None),
    "without a row": ([None, "segment"], False, "segment"),
    "without any row": ([None, None], False, None),
}


@pytest.mark.parametrize(("tasks", "boxes", "expected"), TASKS.values(), ids=TASKS)
def test_a_merge_has_the_task_that_its_archives_share(
    tasks: list[str | None], boxes: bool, expected: str | None
) -> None:
    sources = [
        source(
            f"{letter}.zip",
            "cat dog",
            {"train": letter, "val": letter.upper()},
            task,
            (2, 3) if task == "pose" else None,
        )
        for letter, task in zip("xyz", tasks, strict=False)
    ]
    plan = merged(*sources, boxes_from_polygons=boxes)
    assert plan.task == expected
    mismatch = expected is None and tasks != [None, None]
    assert codes(plan) == ({"merge-task": True} if mismatch else {})
    if mismatch:
        (conflict,) = plan.conflicts
        assert all(f"{task} in '{letter}.zip'" in conflict.message for letter, task in zip("xyz", tasks, strict=False))
        assert ("boxes_from_polygons" in conflict.message) == (set(tasks) == {"detect", "segment"})


def test_keypoints_have_to_be_the_same() -> None:
    poses = [source("a.zip", task="pose", keypoints=(2, 3)), source("b.zip", task="pose", keypoints=(2, 2))]
    assert codes(merged(*poses)) == {"merge-keypoints": True}
    assert "[2, 3] in 'a.zip', [2, 2] in 'b.zip'" in merged(*poses).conflicts[0].message
    same = merged(poses[0], other(task="pose"))
    assert (same.conflicts, same.keypoints) == ((), (2, 3))


FLIPS: dict[str, tuple[list[tuple[int, int] | None], dict[str, bool], tuple[int, int] | None]] = {
    "the same": ([(1, 0), (1, 0)], {}, (1, 0)),
    "none": ([None, None], {}, None),
    "others": ([(1, 0), (0, 1)], {"merge-keypoints": True}, (1, 0)),
    "one says": ([None, (1, 0)], {"merge-keypoints": False}, (1, 0)),
    "one of three says another": ([None, (1, 0), (0, 1)], {"merge-keypoints": True}, (1, 0)),
}


@pytest.mark.parametrize(("flips", "expected", "kept"), FLIPS.values(), ids=FLIPS)
def test_mirrored_keypoints_have_to_be_the_same(
    flips: list[tuple[int, int] | None], expected: dict[str, bool], kept: tuple[int, int] | None
) -> None:
    splits = [{"train": letter, "val": letter.upper()} for letter in "xyz"]
    poses = [source(f"{at}.zip", "cat dog", splits[at], "pose", (2, 3), flip_idx=flip) for at, flip in enumerate(flips)]
    plan = merged(*poses)
    assert (codes(plan), plan.flip_idx, plan.keypoints) == (expected, kept, (2, 3))
    if expected:
        assert f"[1, 0] in '{flips.index((1, 0))}.zip'" in plan.conflicts[0].message


def test_keypoints_are_those_of_the_archives_with_labels() -> None:
    plan = merged(source(task=None), source("b.zip", splits={"train": "v", "val": "x"}, task="pose", keypoints=(2, 3)))
    assert (plan.task, plan.keypoints) == ("pose", (2, 3))


def test_classes_that_an_archive_lacks_are_reported_once_for_each_set_of_archives() -> None:
    plan = merged(source(names="cat dog"), other("cat ox"), source("c.zip", "cat gnu yak", {"train": "rs", "val": "t"}))
    messages = [conflict.message for conflict in plan.conflicts]
    assert codes(plan) == {"merge-partial-labels": False}
    assert [message.split(". ")[0] for message in messages] == [
        "Expected the classes ['dog'] in every archive, found none of these in ['b.zip', 'c.zip']",
        "Expected the classes ['ox'] in every archive, found none of these in ['a.zip', 'c.zip']",
        "Expected the classes ['gnu', 'yak'] in every archive, found none of these in ['a.zip', 'b.zip']",
    ]


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        ({}, True),
        ({"dog": None}, False),
        ({"dog": "cat"}, False),
        ({"b.zip:ox": None}, True),
        ({"b.zip:cat": None, "dog": "cat"}, True),
    ],
)
def test_partial_labels_go_with_the_classes(classes: dict[str, str | None], found: bool) -> None:
    plan = merged(source(), other("cat ox"), classes={"ox": None, **classes})
    assert codes(plan) == ({"merge-partial-labels": False} if found else {})


def test_in_trees_every_image_shows_one_class() -> None:
    assert codes(merged(source(task="classify"), other("cat ox", "classify"))) == {}


def test_similar_names_are_reported() -> None:
    assert "merge-similar-names" in codes(merged(source(names="platelet x"), other("platlet x")))
    decided = merged(source(names="platelet x"), other("platlet x"), classes={"platlet": "platelet"})
    assert codes(decided) == {}


def test_unknown_classes_and_no_class_are_fatal() -> None:
    plan = merged(source(), classes={"cta": "cat"})
    assert codes(plan) == {"merge-unknown-class": True}
    assert "['cta'], but the archives have ['cat', 'dog']" in plan.conflicts[0].message
    assert codes(merged(source(), classes={"cat": None, "dog": None})) == {"merge-no-class": True}


def test_an_image_of_two_splits_stays_in_one() -> None:
    plan = merged(source(), other(train="cv", val="x"))
    assert plan.left_out == (
        ExcludedImage("b.zip/images/train/c.jpg", "train", "a.zip/images/val/c.jpg", "val", "the same image"),
    )
    assert staying(plan) == [{"train": "ab", "val": "c"}, {"train": "v", "val": "x"}]
    assert plan.images == {"train": 3, "val": 2}


def test_of_two_splits_that_with_most_of_an_image_keeps_it() -> None:
    plan = merged(source(), other(train="cv", val="x"), source("c.zip", splits={"train": "cw", "val": "z"}))
    assert [each.image for each in plan.left_out] == ["a.zip/images/val/c.jpg"]
    assert codes(plan) == {}


def test_an_image_of_one_split_is_written_once_for_all_archives_and_reported() -> None:
    plan = merged(source(), other(train="av", val="x"), source("c.zip", splits={"train": "wa", "val": "z"}))
    assert (plan.repeated, plan.left_out) == (0, ())
    assert staying(plan) == [{"train": "ab", "val": "c"}, {"train": "v", "val": "x"}, {"train": "w", "val": "z"}]
    (united,) = plan.united
    assert united.written == (0, "images/train/a.jpg", None)
    assert [copy.archive for copy in united.copies] == [0, 1, 2]


def test_a_copy_in_another_split_is_left_out_and_lends_its_labels() -> None:
    plan = merged(source(), other(train="cv", val="x"))
    (united,) = plan.united
    assert (united.written.image, united.copies[1].image) == ("images/val/c.jpg", "images/train/c.jpg")


def test_what_gold_keeps_out_is_not_united() -> None:
    """The picture is in no split then, and gold has the labels that it came with."""
    gold = source("g.zip", splits={"val": "a"})
    plan = merged(source(), other(train="av", val="x"), gold=gold)
    assert [each.image for each in plan.left_out] == ["a.zip/images/train/a.jpg", "b.zip/images/train/a.jpg"]
    assert plan.united == ()


def test_an_image_twice_in_one_archive_is_counted_and_stays() -> None:
    own = source(splits={"train": "ab", "val": "c"})
    again = "images/train/again/a.jpg"
    splits = {**own.dataset.splits, "train": (*own.dataset.splits["train"], LabelledImage(again, None))}
    images = {**own.images, again: own.images["images/train/a.jpg"]}
    entries = {**own.entries, again: own.entries["images/train/a.jpg"]}
    plan = merged(replace(own, dataset=replace(own.dataset, splits=splits), images=images, entries=entries))
    assert (plan.repeated, plan.united) == (1, ())


def test_a_picture_that_its_tag_turns_is_another_one_to_a_label() -> None:
    turned = other(train="av", val="x")
    traits = {**turned.images, "images/train/a.jpg": turned.images["images/train/a.jpg"]._replace(orientation=3)}
    plan = merged(source(), replace(turned, images=traits))
    assert (plan.repeated, plan.united) == (1, ())


def test_of_a_tree_nothing_is_united() -> None:
    """Its images have one class each."""
    plan = merged(source(task="classify"), other("cat dog", "classify", train="av", val="x"))
    assert (plan.repeated, plan.united, codes(plan)) == (1, (), {})


def test_a_picture_in_folders_of_two_classes_is_reported() -> None:
    """The archives call the folder of the letter a by another class each."""
    plan = merged(source(task="classify"), other("dog cat", "classify", train="av", val="x"))
    (conflict,) = plan.conflicts
    assert (conflict.code, conflict.fatal) == (MergeCode.LABELS, False)
    assert "found some in folders of several: 1, such as 'a.zip/images/train/cat/a.jpg'" in conflict.message
    assert plan.repeated == 1


@pytest.mark.parametrize(("train", "val", "lacks"), [("ab", "c", False), ("abv", "c", True), ("ab", "cx", True)])
def test_a_class_is_not_lacking_where_another_archive_has_labelled_the_same_pictures(
    train: str, val: str, lacks: bool
) -> None:
    """One archive is labelled for cars, one for people."""
    plan = merged(source(names="car"), other("person", train=train, val=val))
    assert codes(plan) == ({"merge-partial-labels": False} if lacks else {})


def labelled(archive: str, names: str, text: str, path: str = "images/train/a.jpg") -> MergeInput:
    """An archive whose picture a has these rows."""
    own = source(archive, names)
    train = tuple(
        LabelledImage(each.image, "a.txt" if each.image == path else None) for each in own.dataset.splits["train"]
    )
    dataset = replace(own.dataset, splits={**own.dataset.splits, "train": train})
    return replace(own, dataset=dataset, read=lambda name: text.encode() if name == "a.txt" else own.read(name))


@pytest.mark.parametrize(
    ("own", "their", "disputed"),
    [
        ("0 .5 .5 .2 .2", "0 .5 .5 .2 .2", 0),
        ("0 .5 .5 .2 .2", "0.0 0.5001 5e-1 .2 .2", 0),
        ("0 .5 .5 .2 .2", "0 .52 .5 .2 .2", 1),
        ("0 .5 .5 .2 .2", "0 .9 .9 .2 .2", 2),
        ("0 .5 .5 .2 .2", "", 1),
        ("0 .5 .5 .2 .2", "1 .5 .5 .2 .2", 1),
        ("1 .5 .5 .2 .2", "1 .5 .5 .2 .2", 0),
    ],
)
def test_what_archives_that_share_a_class_disagree_about_is_reported(own: str, their: str, disputed: int) -> None:
    """The class `dog` is known to the first archive alone, `ox` to the second."""
    plan = merged(labelled("a.zip", "cat dog", own), labelled("b.zip", "cat ox", their))
    told = [each.message for each in plan.conflicts if each.code is MergeCode.LABELS]
    assert [message.split("found ")[1].split(" labels")[0] for message in told] == ([str(disputed)] if disputed else [])
    if told:
        assert "'a.zip/images/train/a.jpg' and 'b.zip/images/train/a.jpg'" in told[0]


def test_groups_of_the_policy_stay_together() -> None:
    sources = (source(splits={"train": "abc", "val": "de"}), other(train="v", val="xy"))
    assert merged(*sources).left_out == ()
    plan = merged(*sources, groups=["images/{group}/a.jpg", "images/val/{group}.jpg", "{group}/d.jpg"])
    assert plan.left_out == (), "a group for each pattern and name, none in two splits"
    named = merged(source(splits={"train": "a", "val": "b"}), source("b.zip", splits={"train": "v", "val": "a"}))
    assert [each.image for each in named.left_out] == ["a.zip/images/train/a.jpg"]


def test_a_group_may_span_archives() -> None:
    one, two = source(splits={"train": "a", "val": "b"}), source("b.zip", splits={"train": "xyb", "val": "v"})
    assert [each.image for each in merged(one, two).left_out] == ["b.zip/images/train/b.jpg"]
    clips = [
        MergeInput(archive=each.archive, dataset=renamed(each.dataset), images={}, entries={}, read=each.read)
        for each in (source(splits={"train": "ab", "val": "c"}),)
    ]
    (left_out,) = merged(*clips, groups=["clip{group}-*.jpg"]).left_out
    assert left_out.reason == "of one group (7)"


def renamed(dataset: Dataset) -> Dataset:
    """Frames of one clip in train, and one in val."""
    return replace(
        dataset,
        splits={
            split: tuple(
                LabelledImage(sample.image.replace("/c.", "/clip7-c.").replace("/a.", "/clip7-a."), None)
                for sample in own
            )
            for split, own in dataset.splits.items()
        },
    )


def test_a_missing_test_split_stays_missing() -> None:
    plan = merged(source(), other())
    assert set(plan.images) == {"train", "val"}
    assert [set(own) for own in plan.splits] == [{"train", "val"}] * 2


def test_a_declared_test_split_is_kept_and_one_without_images_is_none() -> None:
    with_test = merged(source(splits={"train": "ab", "val": "c", "test": ""}), other(train="v", val="x", test="y"))
    assert with_test.images == {"train": 3, "val": 2, "test": 1}
    assert with_test.conflicts == ()
    without = merged(source(splits={"train": "ab", "val": "c", "test": ""}), other())
    assert (without.conflicts, set(without.images)) == ((), {"train", "val"})


def test_a_split_that_lost_all_its_images_is_reported() -> None:
    plan = merged(source(splits={"train": "abc", "val": "d", "test": "e"}), other(train="dev", val="dx", test="e"))
    assert codes(plan) == {}, "ties keep val and test"
    lost = merged(
        source(splits={"train": "ad", "val": "y", "test": "z"}),
        other(train="dzv", val="d"),
        source("c.zip", splits={"train": "zy", "val": "d"}),
        source("d.zip", splits={"train": "yd", "val": "d"}),
    )
    assert codes(lost) == {"merge-split-empty": False}
    assert "images in test" in lost.conflicts[0].message
    assert "test" not in lost.images
    no_val = merged(
        source(splits={"train": "ab", "val": "c"}),
        other(train="cx", val="c"),
        source("c.zip", splits={"train": "cz", "val": "c"}),
        source("d.zip", splits={"train": "c", "val": ""}),
        source("e.zip", splits={"train": "c", "val": ""}),
    )
    assert codes(no_val) == {"merge-split-empty": True}


def test_images_of_dropped_classes_are_neither_counted_nor_compared() -> None:
    plan = merged(
        source(splits={"train": "aB", "val": "C"}, task="classify"),
        other("cat dog", "classify", train="Cv", val="xB"),
        classes={"dog": None},
    )
    assert plan.images == {"train": 2, "val": 1}
    assert plan.left_out == ()
    boxes = merged(source(splits={"train": "aB", "val": "C"}), classes={"dog": None})
    assert boxes.images == {"train": 2, "val": 1}, "an image of a dropped class is background"


def test_a_tree_whose_val_is_of_a_dropped_class_has_no_val() -> None:
    plan = merged(source(splits={"train": "ab", "val": "C"}, task="classify"), classes={"dog": None})
    assert codes(plan) == {"merge-split-empty": True}


def test_fatal_conflicts_stop_a_merge_and_the_others_if_the_policy_says_so() -> None:
    partial = merged(source(), other("cat ox"), partial_labels="warn")
    assert blocking_conflicts(partial, MergePolicy()) == []
    assert blocking_conflicts(partial, MergePolicy(on_conflict="fail")) == list(partial.conflicts)
    fatal = merged(source(), other("cat ox", val="ab", train="cv"), classes={"x": "y"}, partial_labels="warn")
    assert [conflict.code.value for conflict in blocking_conflicts(fatal, MergePolicy())] == ["merge-unknown-class"]
    every = blocking_conflicts(fatal, MergePolicy(on_conflict="fail"))
    assert [conflict.fatal for conflict in every] == sorted((conflict.fatal for conflict in every), reverse=True)
    assert len(every) == len(fatal.conflicts) > 1


def test_the_same_sources_give_the_same_plan() -> None:
    sources = (source(), other("dog catt", train="cbv", val="ax"))
    assert merged(*sources, groups=["{group}.jpg"]) == merged(*sources, groups=["{group}.jpg"])
