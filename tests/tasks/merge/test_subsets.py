"""The same images for a model with other classes, and a few of them for a rehearsal: as Ultralytics reads them."""

from pathlib import Path
from typing import Any

import pytest
from ultralytics.data.utils import check_cls_dataset, check_det_dataset

from tasks.merge.steps import MergeError, write_relabelled_split, write_smoke_test_subset
from tests.tasks.dataset.archives import Content
from tests.tasks.merge.archives import TASKS, Entries, classes_seen, dataset, merge, picture, read_whole, row, tree

OTHER = ("Dogs", "ox", "CAT")
TINY = {
    "detect": "nc: 3\nbackbone: [[-1, 1, Conv, [8, 3, 8]]]\nhead: [[[0], 1, Detect, [nc]]]\n",
    "classify": "nc: 3\nbackbone: [[-1, 1, Conv, [8, 3, 8]]]\nhead: [[-1, 1, Classify, [nc]]]\n",
}


@pytest.mark.parametrize("task", TASKS)
def test_a_view_has_the_ids_of_the_other_model(tmp_path: Path, task: str) -> None:
    """Every image of val and all its numbers, whichever of the two is read first."""
    changes: Entries = {"images/val/none.jpg": picture(6)}
    _, merged = merge(tmp_path, dataset(0, task=task, changes=changes))
    view = write_relabelled_split.fn(merged.data, task, merged.class_names, OTHER, tmp_path / "view")
    described: Any = check_det_dataset(str(view))
    assert described["names"] == dict(enumerate(OTHER))
    assert described.get("kpt_shape") == ([2, 3] if task == "pose" else None)
    before = read_whole(merged.data, task, "val")
    seen = read_whole(view, task, "val")
    assert {image: [each[:2] for each in own] for image, own in seen.items()} == {
        picture(4): [(2, 4)],
        picture(5): [(0, 5)],
        picture(6): [],
    }
    assert {image: [each[1:] for each in own] for image, own in seen.items()} == {
        image: [each[1:] for each in own] for image, own in before.items()
    }
    assert read_whole(merged.data, task, "val") == before, "from the cache"
    assert all(path.is_symlink() for path in (tmp_path / "view").rglob("*.jpg"))


def test_labels_of_classes_that_the_other_lacks_are_dropped_and_images_stay(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, dataset(0))
    view = write_relabelled_split.fn(merged.data, "detect", merged.class_names, ("dog",), tmp_path / "view")
    seen = read_whole(view, "detect", "val")
    assert {image: [each[:2] for each in own] for image, own in seen.items()} == {picture(4): [], picture(5): [(0, 5)]}


def test_a_tree_is_seen_under_the_other_numbers(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, tree(0, changes={"val/emu/x.jpg": picture(30), "train/emu/y.jpg": picture(31)}))
    view = write_relabelled_split.fn(merged.data, "classify", merged.class_names, OTHER, tmp_path / "view")
    described = check_cls_dataset(str(view))
    assert described["names"] == dict(enumerate(OTHER))
    assert classes_seen(described) == {picture(4): 2, picture(5): 0}
    assert len(list((tmp_path / "view").rglob("*.jpg"))) == 2, "the one of no class of the other is not linked"
    assert classes_seen(check_cls_dataset(str(merged.data)))[picture(4)] == 0


@pytest.mark.parametrize("task", TINY)
def test_a_model_is_measured_on_a_view_class_by_class(tmp_path: Path, task: str) -> None:
    """Ultralytics itself counts the objects of each class, for a model whose classes are others."""
    from ultralytics import YOLO  # type: ignore[attr-defined]

    entries = tree(0) if task == "classify" else dataset(0, changes={"labels/val/4.txt": row(0, 4) + row(0, 40)})
    _, merged = merge(tmp_path, entries)
    view = write_relabelled_split.fn(merged.data, task, merged.class_names, OTHER, tmp_path / "view")
    (tmp_path / "tiny.yaml").write_text(TINY[task])
    model: Any = YOLO(tmp_path / "tiny.yaml", task=task)
    model.model.names = dict(enumerate(OTHER))
    options = {"imgsz": 32, "device": "cpu", "workers": 0, "plots": False, "verbose": False, "batch": 2}
    metrics = model.val(data=str(view), project=str(tmp_path), name="val", **options)
    if task == "detect":
        assert metrics.nt_per_class.tolist() == [1, 0, 2]
        assert [metrics.names[int(at)] for at in metrics.ap_class_index] == ["Dogs", "CAT"]
    else:
        assert metrics.confusion_matrix.matrix.sum(axis=0).tolist() == [1, 0, 1]


@pytest.mark.parametrize("entries", [dataset(0), tree(0)], ids=["boxes", "tree"])
def test_models_without_a_class_in_common_are_refused(tmp_path: Path, entries: Entries) -> None:
    _, merged = merge(tmp_path, entries)
    with pytest.raises(MergeError, match=r"one has \['cat', 'dog'\], the other \['ox'\]"):
        write_relabelled_split.fn(merged.data, merged.task, merged.class_names, ("ox",), tmp_path / "view")


def test_a_folder_is_used_once(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, dataset(0))
    (tmp_path / "there").mkdir()
    with pytest.raises(MergeError, match="Expected a folder that does not exist"):
        write_relabelled_split.fn(merged.data, "detect", merged.class_names, OTHER, tmp_path / "there")
    with pytest.raises(MergeError, match="Expected a folder that does not exist"):
        write_smoke_test_subset.fn(merged, tmp_path / "there")


@pytest.mark.parametrize("task", TASKS)
def test_a_rehearsal_shows_labelled_images_of_all_classes_first(tmp_path: Path, task: str) -> None:
    empty: dict[str, Content] = {f"images/{split}/0{at}.jpg": picture(50 + at) for at, split in enumerate("tv")}
    backgrounds = {name.replace("/t/", "/train/").replace("/v/", "/val/"): data for name, data in empty.items()}
    _, merged = merge(tmp_path, dataset(0, task=task, changes=backgrounds), dataset(10, "ox, dog", task))
    data = write_smoke_test_subset.fn(merged, tmp_path / "few", images=3)
    described: Any = check_det_dataset(str(data))
    assert described["names"] == dict(enumerate(merged.class_names)) == {0: "cat", 1: "dog", 2: "ox"}
    assert described.get("flip_idx") == ([1, 0] if task == "pose" else None)
    train, val = (read_whole(data, task, split) for split in ("train", "val"))
    assert {objects[0][0] for objects in train.values()} == {0, 1, 2}
    assert len(val) == 1
    whole = read_whole(merged.data, task, "train") | read_whole(merged.data, task, "val")
    assert (train | val).items() <= whole.items()
    assert all(path.is_symlink() for path in (tmp_path / "few").rglob("*.jpg"))


def test_a_rehearsal_of_a_tree_has_images_of_several_classes(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, tree(0), tree(10, ("cat", "emu")))
    described = check_cls_dataset(str(write_smoke_test_subset.fn(merged, tmp_path / "few", images=4)))
    assert described["names"] == {0: "cat", 1: "dog", 2: "emu"}
    whole = classes_seen(check_cls_dataset(str(merged.data)))
    seen = classes_seen(described)
    assert len(seen) == 6
    assert set(seen.values()) == {0, 1, 2}
    assert seen.items() <= whole.items()


def test_a_rehearsal_takes_what_there_is_and_the_same_each_time(tmp_path: Path) -> None:
    _, merged = merge(tmp_path, dataset(0))
    once, again = (write_smoke_test_subset.fn(merged, tmp_path / name) for name in ("one", "two"))
    assert len(read_whole(once, "detect", "train")) == 4
    assert len(read_whole(once, "detect", "val")) == 2
    assert read_whole(once, "detect", "train") == read_whole(again, "detect", "train")
