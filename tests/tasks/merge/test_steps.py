"""Merges of real zips: what is planned, written, and what Ultralytics makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger
from ultralytics.data.utils import check_cls_dataset, check_det_dataset

from tasks.merge.steps import MergeError, plan_archives, require_mergeable, valid_archive, write_merge
from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.validation.dataset_check import inspect_dataset
from tasks.validation.image_stats_io import pack_image_stats
from tests.tasks.dataset.test_zip_names import raw_zip
from tests.tasks.merge.archives import (
    TASKS,
    Entries,
    checked,
    classes_seen,
    dataset,
    labels_seen,
    merge,
    picture,
    read_whole,
    row,
    tree,
)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def labels_of(folder: Path, image: bytes) -> str:
    """The label of the image with these bytes, wherever it is."""
    (path,) = (path for path in folder.rglob("images/*/*") if path.read_bytes() == image)
    return Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt").read_text()


def images_in(folder: Path) -> dict[bytes, str]:
    """Every image that was written, with its split."""
    return {path.read_bytes(): path.parent.name for path in folder.rglob("images/*/*")}


def test_classes_named_in_another_charset_are_the_same_classes(tmp_path: Path) -> None:
    """Windows in China wrote GBK and does not say so; in another archive the same names are UTF-8."""
    gbk = {name.encode("gbk"): content for name, content in tree(0, ("猫", "狗")).items()}
    path = tmp_path / "gbk.zip"
    path.write_bytes(raw_zip([(name, 0, b"") for name in gbk], {name: bytes(gbk[name]) for name in gbk}))  # type: ignore[arg-type]
    seen = inspect_dataset(path, path.name, "0" * 64, ValidationPolicy.model_validate({}))
    guessed = valid_archive(path.name, path, seen.report, pack_image_stats(seen.images))
    plan = plan_archives.fn([guessed, *checked(tmp_path, tree(6, ("猫", "狗")))], MergePolicy())
    assert sorted(plan.classes.class_names) == ["狗", "猫"]


def test_reversed_classes_get_the_right_ids(tmp_path: Path) -> None:
    plan, merged = merge(tmp_path, dataset(0), dataset(10, "Dogs, CAT"))
    assert plan.conflicts == ()
    assert merged.class_names == ("cat", "dog")
    for at in range(6):
        assert labels_of(tmp_path / "merged", picture(at)) == row(at % 2, at)
        assert labels_of(tmp_path / "merged", picture(10 + at)) == row(1 - at % 2, 10 + at)


def test_every_image_survives_byte_for_byte_in_its_split(tmp_path: Path) -> None:
    """Both archives have the same names."""
    _, merged = merge(tmp_path, dataset(0), dataset(10))
    expected = {picture(start + at): "train" if at < 4 else "val" for start in (0, 10) for at in range(6)}
    assert images_in(tmp_path / "merged") == expected
    assert merged.images == {"train": 8, "val": 4}
    assert len(list((tmp_path / "merged" / "labels").rglob("*.txt"))) == 12


ODD = {
    "images/train/a b\u00fc%\u2603.JPEG": 41,
    "images/train/" + "x" * 200 + ".jpg": 42,
    "images/train/deep/0.jpg": 43,
}


def test_odd_names_and_backgrounds_are_written_under_plain_ones(tmp_path: Path) -> None:
    changes: Entries = {name: picture(seed) for name, seed in ODD.items()}
    changes["labels/train/deep/0.txt"] = b"\xef\xbb\xbf1 0.5\x0b0.5 0.2 0.2\r\n"
    merge(tmp_path, dataset(0, changes=changes))
    found = files(tmp_path / "merged")
    assert set(changes.values()) <= {*found.values(), changes["labels/train/deep/0.txt"]}
    assert {name.rpartition(".")[2] for name in found} == {"jpg", "jpeg", "json", "txt", "yaml"}
    assert all(name.isascii() and len(name) < 120 for name in found)
    assert sum(name.startswith("labels/train/") for name in found) == 5, "an image without a label stays one"
    assert labels_of(tmp_path / "merged", picture(43)) == "1 0.5 0.5 0.2 0.2\n"


@pytest.mark.parametrize("copy", [picture(14), picture(14, 70)], ids=["the same bytes", "encoded anew"])
def test_a_leak_between_archives_is_left_out_of_train(tmp_path: Path, copy: bytes) -> None:
    plan, _ = merge(tmp_path, dataset(0, changes={"images/train/leak.jpg": copy}), dataset(10))
    (left_out,) = plan.left_out
    assert left_out[:4] == ("a.zip/images/train/leak.jpg", "train", "b.zip/images/val/4.jpg", "val")
    written = images_in(tmp_path / "merged")
    assert written[picture(14)] == "val"
    assert len(written) == 12


def test_a_leak_that_train_has_more_of_is_left_out_of_val(tmp_path: Path) -> None:
    plan, _ = merge(
        tmp_path,
        dataset(0, changes={"images/train/leak.jpg": picture(14), "images/train/more.jpg": picture(14, 70)}),
        dataset(10),
    )
    assert [each.image for each in plan.left_out] == ["b.zip/images/val/4.jpg"]
    assert images_in(tmp_path / "merged")[picture(14)] == "train"


def test_dropped_classes_lose_their_labels_and_not_their_images(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, dataset(0), dataset(10), classes={"cat": None})
    assert merged.class_names == ("dog",)
    assert labels_of(tmp_path / "merged", picture(0)) == ""
    assert labels_of(tmp_path / "merged", picture(1)) == row(0, 1)
    assert merged.images == {"train": 8, "val": 4}


@pytest.mark.parametrize("task", TASKS)
def test_ultralytics_reads_the_merge_of_every_task(tmp_path: Path, task: str) -> None:
    _, merged = merge(tmp_path, dataset(0, task=task), dataset(10, "dog, cat", task))
    assert merged.task == task
    described: Any = check_det_dataset(str(merged.data))
    assert described["names"] == {0: "cat", 1: "dog"}
    assert described.get("kpt_shape") == ([2, 3] if task == "pose" else None)
    assert described.get("flip_idx") == ([1, 0] if task == "pose" else None)
    seen = labels_seen(described, task)
    assert seen == {at: at % 2 for at in range(6)} | {10 + at: 1 - at % 2 for at in range(6)}
    for image, ((class_id, seed, numbers),) in (read_whole(merged.data, task, "val")).items():
        assert (image, class_id) == (picture(seed), seen[seed])
        left, top, right, bottom = numbers[0] - 0.125, 0.375, numbers[0] + 0.125, 0.625
        rest = [left, top, right, top, right, bottom, left, bottom] if task in {"segment", "obb"} else []
        rest = [left, top, 2, right, bottom, 0] if task == "pose" else rest
        assert numbers[1:] == pytest.approx([0.5, 0.25, 0.25, *rest], abs=1e-5)


def boxes_seen(folder: Path, image: bytes) -> list[list[float]]:
    """The rows of an image as numbers."""
    return [list(map(float, line.split())) for line in labels_of(folder, image).splitlines()]


@pytest.mark.parametrize("task", TASKS)
def test_labels_of_the_same_pictures_in_two_archives_are_united(tmp_path: Path, task: str) -> None:
    """One is labelled for cars and one for people, and has background where nobody is."""
    cars, people = dataset(0, "car, bus", task), dataset(0, "person, dog", task)
    for at in range(6):
        name = f"labels/{'train' if at < 4 else 'val'}/{at}.txt"
        people[name] = "" if at == 0 else row(0, 200 + at, task)
    del people["labels/train/0.txt"]
    plan, merged = merge(tmp_path, cars, people)

    assert plan.conflicts == ()
    assert [(each.kept, len(each.copies)) for each in plan.united] == [(0, 2)] * 6
    assert merged.images == {"train": 4, "val": 2}
    assert labels_of(tmp_path / "merged", picture(0)) == row(0, 0, task)
    for split, seeds in (("train", range(1, 4)), ("val", range(4, 6))):
        found = read_whole(merged.data, task, split)
        for at in seeds:
            assert [(class_id, seed) for class_id, seed, _ in found[picture(at)]] == [(at % 2, at), (2, 200 + at)]


def test_a_copy_of_another_split_lends_its_labels_and_is_left_out(tmp_path: Path) -> None:
    """Nothing that was labelled goes with it, and no picture is on both sides."""
    people = dataset(10, "person, dog", changes={"images/train/x.jpg": picture(4), "labels/train/x.txt": row(0, 77)})
    plan, merged = merge(tmp_path, dataset(0, "car, bus"), people)
    assert [each.image for each in plan.left_out] == ["b.zip/images/train/x.jpg"]
    assert images_in(tmp_path / "merged")[picture(4)] == "val"
    assert merged.images == {"train": 8, "val": 4}
    assert labels_of(tmp_path / "merged", picture(4)) == row(0, 4) + row(2, 77)


def test_the_same_archive_twice_doubles_no_box(tmp_path: Path) -> None:
    plan, _ = merge(tmp_path, dataset(0), dataset(0))
    assert (plan.conflicts, plan.repeated, plan.left_out) == ((), 0, ())
    for at in range(6):
        assert labels_of(tmp_path / "merged", picture(at)) == row(at % 2, at)


def test_archives_that_label_one_class_otherwise_are_reported_and_can_stop_the_merge(tmp_path: Path) -> None:
    moved = dataset(0, changes={"labels/train/0.txt": "0 0.32 0.5 0.25 0.25\n", "labels/val/5.txt": ""})
    plan, _ = merge(tmp_path, dataset(0), moved)
    (conflict,) = plan.conflicts
    assert (conflict.code, conflict.fatal) == ("merge-labels", False)
    assert "found 2 labels in 2 pictures" in conflict.message
    assert labels_of(tmp_path / "merged", picture(0)) == row(0, 0)
    assert labels_of(tmp_path / "merged", picture(5)) == row(1, 5)
    with pytest.raises(MergeError, match="pictures that both have"):
        require_mergeable(plan, MergePolicy(on_conflict="fail"))


def test_nearly_the_same_pictures_keep_their_own_labels(tmp_path: Path) -> None:
    """They may show other objects."""
    people = dataset(0, "person, dog")
    people |= {f"images/{split}/{at}.jpg": picture(at, 60) for split, at in [("train", 0), ("train", 1)]}
    plan, _ = merge(tmp_path, dataset(0, "car, bus"), people)
    assert len(plan.united) == 4
    assert labels_of(tmp_path / "merged", picture(0, 60)) == row(2, 0)


def test_classes_of_savetxt_and_outlines_as_boxes_reach_the_training(tmp_path: Path) -> None:
    """Boxes and outlines in one file, which Ultralytics would refuse."""
    declared = "task: detect\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"
    mixed = "1.000000000000000000e+00 3.0e-01 5.0e-01 2.5e-01 2.5e-01\n0 0.1 0.1 0.5 0.1 0.5 0.3\n"
    _, merged = merge(tmp_path, dataset(0, changes={"data.yaml": declared, "labels/train/0.txt": mixed}))
    found = read_whole(merged.data, "detect", "train")[picture(0)]
    assert [class_id for class_id, *_ in found] == [1, 0]
    assert found[1][2] == pytest.approx([0.3, 0.2, 0.4, 0.2])


def test_boxes_around_polygons_are_trained_on(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, dataset(0), dataset(10, task="segment"), boxes_from_polygons=True)
    assert merged.task == "detect"
    seen = labels_seen(check_det_dataset(str(merged.data)), "detect")
    assert seen == {start + at: at % 2 for start in (0, 10) for at in range(6)}


def test_classification_trees_are_merged_by_class_name(tmp_path: Path) -> None:
    changes: Entries = {"val/emu/x.jpg": picture(30)}
    _, merged = merge(tmp_path, tree(0, changes=changes), tree(10, ("dogs", "yak")), classes={"yak": None})
    assert merged.class_names == ("cat", "dog", "emu")
    assert merged.images == {"train": 6, "val": 4}
    described = check_cls_dataset(str(merged.data))
    assert described["names"] == {0: "cat", 1: "dog", 2: "emu"}
    expected = {at: at % 2 for at in range(6)} | {10 + at: 1 for at in (0, 2, 4)} | {30: 2}
    assert classes_seen(described) == {picture(seed): class_id for seed, class_id in expected.items()}


def test_names_that_yaml_reads_as_other_things_stay_text(tmp_path: Path) -> None:
    names = "'no', 'null', '1', 'a: b', '\u732b', '#x'"
    _, merged = merge(tmp_path, dataset(0, names))
    expected = ["no", "null", "1", "a: b", "\u732b", "#x"]
    assert list(check_det_dataset(str(merged.data))["names"].values()) == list(merged.class_names) == expected
    assert list(yaml.safe_load(merged.data.read_text("utf-8"))["names"].values()) == expected


def test_two_runs_give_the_same_tree_wherever_it_lies(tmp_path: Path) -> None:
    archives = checked(tmp_path, dataset(0), dataset(10, "dog, ox"))
    trees = []
    for place in ("one", "deep/er/two"):
        plan = plan_archives.fn(archives, MergePolicy())
        write_merge.fn(archives, plan, tmp_path / place)
        trees.append(files(tmp_path / place))
    assert trees[0] == trees[1]


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    archives = checked(tmp_path, dataset(0))
    plan = plan_archives.fn(archives, MergePolicy())
    (tmp_path / "there").mkdir()
    with pytest.raises(MergeError, match="Expected a folder that does not exist"):
        write_merge.fn(archives, plan, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_an_archive_named_twice_is_refused(tmp_path: Path) -> None:
    (archive,) = checked(tmp_path, dataset(0))
    with pytest.raises(MergeError, match=r"found one of them twice in \['a.zip', 'a.zip'\]"):
        plan_archives.fn([archive, archive], MergePolicy())


def test_a_test_folder_that_is_named_and_not_there_stops_nothing(tmp_path: Path) -> None:
    """Roboflow names one in every export."""
    yaml_file = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [cat, dog]\n"
    moved: Entries = {}
    for name, content in dataset(0, changes={"data.yaml": yaml_file}).items():
        kind, _, rest = name.partition("/")
        split, _, base = rest.partition("/")
        moved[f"{'valid' if split == 'val' else split}/{kind}/{base}" if rest else name] = content
    plan, merged = merge(tmp_path, moved)
    assert plan.conflicts == ()
    assert merged.images == {"train": 4, "val": 2}
    assert "test" not in yaml.safe_load(merged.data.read_text())
    assert check_det_dataset(str(merged.data))["names"] == {0: "cat", 1: "dog"}


def test_an_archive_that_changed_since_its_check_stops_the_merge(tmp_path: Path) -> None:
    (archive,) = checked(tmp_path, dataset(0))
    plan = plan_archives.fn([archive], MergePolicy())
    data = archive.path.read_bytes()
    at = data.index(b"images/train/3.jpg") + 500
    archive.path.write_bytes(data[:at] + b"xxxx" + data[at + 4 :])
    with pytest.raises(
        MergeError, match=r"^Writing the merge stopped at archive 'a.zip': .*unpacks and fits its checksum"
    ):
        write_merge.fn([archive], plan, tmp_path / "merged")


def conflicts(tmp_path: Path, *names: str, **policy: Any) -> None:
    archives = checked(tmp_path, *(dataset(10 * at, each) for at, each in enumerate(names)))
    chosen = MergePolicy.model_validate(policy)
    with disable_run_logger():
        require_mergeable(plan_archives.fn(archives, chosen), chosen)


def test_conflicts_are_warnings_until_the_policy_says_otherwise(tmp_path: Path) -> None:
    conflicts(tmp_path, "cat, dog", "cat, ox")
    with pytest.raises(MergeError) as caught:
        conflicts(tmp_path, "cat, dog", "cat, ox", on_conflict="fail", partial_labels="warn")
    assert "found none of these in ['b.zip']" in str(caught.value)
    assert str(caught.value).endswith("Settle it, or set merge.on_conflict to warn.")
    conflicts(tmp_path, "cat, dog", "dogs, CAT", on_conflict="fail")


def test_a_fatal_conflict_stops_whatever_the_policy_says(tmp_path: Path) -> None:
    for policy in ({}, {"on_conflict": "fail"}):
        with pytest.raises(MergeError) as caught:
            conflicts(tmp_path, "cat, dog", "cat, ox", classes={"none": "x"}, **policy)
        assert str(caught.value).startswith("Expected classes of these archives in merge.classes, found ['none']")
        assert "on_conflict" not in str(caught.value)


def test_many_conflicts_are_counted(tmp_path: Path) -> None:
    names = [f"{word}ing, {word}king" for word in ("jumble", "tumble", "rumble")]
    one, other = ", ".join(names), ", ".join(names).replace("ble", "bel")
    conflicts(tmp_path, one, other)
    with pytest.raises(MergeError, match=r" And \d+ more\. Settle it"):
        conflicts(tmp_path, one, other, on_conflict="fail")


@pytest.mark.parametrize("task", TASKS)
def test_a_gold_archive_is_written_apart_and_whole(tmp_path: Path, task: str) -> None:
    """Both splits of it, under merged ids; its copy in train is gone, labels of a class that is not trained as well."""
    changes: Entries = {"labels/val/4.txt": row(0, 34, task) + row(2, 35, task)}
    gold = dataset(30, "dog, cat, ox", task, changes)
    plan, merged = merge(tmp_path, dataset(0, task=task, changes={"images/train/leak.jpg": picture(34)}), gold=gold)
    assert [each.code.value for each in plan.conflicts] == ["merge-gold"]
    assert merged.gold is not None
    assert merged.images == {"train": 4, "val": 2, "gold": 6}
    trained = (tmp_path / "merged" / "images").rglob("*.jpg")
    assert {path.read_bytes() for path in trained} == {picture(at) for at in range(6)}
    described: Any = check_det_dataset(str(merged.gold))
    assert described["names"] == {0: "cat", 1: "dog"}
    assert described.get("flip_idx") == ([1, 0] if task == "pose" else None)
    seen = read_whole(merged.gold, task, "val")
    assert {image: [each[:2] for each in own] for image, own in seen.items()} == {
        picture(30 + at): [(1 - at % 2, 30 + at)] for at in range(6)
    }


def test_a_gold_tree_is_written_apart(tmp_path: Path) -> None:
    gold = tree(30, ("dog", "cat"), {"val/emu/x.jpg": picture(40), "train/cat/y.jpg": picture(0)})
    _, merged = merge(tmp_path, tree(0), gold=gold)
    assert merged.images == {"train": 3, "val": 2, "gold": 7}
    assert merged.gold is not None
    described = check_cls_dataset(str(merged.gold))
    assert described["names"] == {0: "cat", 1: "dog"}
    assert classes_seen(described) == {picture(30 + at): 1 - at % 2 for at in range(6)} | {picture(0): 0}
    assert picture(0) not in classes_seen(check_cls_dataset(str(merged.data)))


def test_what_is_trained_on_cannot_be_gold(tmp_path: Path) -> None:
    (archive,) = checked(tmp_path, dataset(0))
    with pytest.raises(MergeError, match=r"found 'a\.zip' among the archives"):
        plan_archives.fn([archive], MergePolicy(), archive)


def test_archives_without_a_label_are_trained_as_boxes(tmp_path: Path) -> None:
    (archive,) = checked(tmp_path, dataset(0))
    plan = replace(plan_archives.fn([archive], MergePolicy()), task=None)
    assert write_merge.fn([archive], plan, tmp_path / "merged").task == "detect"


def test_a_plan_knows_its_archives_by_their_digests(tmp_path: Path) -> None:
    (archive,) = checked(tmp_path, dataset(0))
    assert plan_archives.fn([archive], MergePolicy()).digests == ("0" * 64,)
