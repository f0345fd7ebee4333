"""A digest changes with what is written, and with nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from tasks.dataset.layout import LabelledImage
from tasks.merge.fingerprint import plan_digest
from tasks.merge.label_union import ImageCopy, LabelUnion
from tasks.merge.plan import MergePlan
from tests.tasks.merge.inputs import merged, source


def plan() -> MergePlan:
    first = replace(source(names="cat dog ox"), digest="1" * 64)
    gold = source("g.zip", "dog", {"val": "p"})
    return merged(first, source("b.zip", "dog cat", {"train": "v", "val": "x"}), gold=gold)


def labelled(before: MergePlan) -> MergePlan:
    train = (LabelledImage(before.splits[0]["train"][0].image, "a.txt"), *before.splits[0]["train"][1:])
    return replace(before, splits=({**before.splits[0], "train": train}, before.splits[1]))


def without_gold_image(before: MergePlan) -> MergePlan:
    assert before.gold is not None
    return replace(before, gold=replace(before.gold, samples=()))


def moved(before: MergePlan) -> MergePlan:
    """The last image of train is the first of val: all are in the same order."""
    *train, last = before.splits[0]["train"]
    splits = {"train": tuple(train), "val": (last, *before.splits[0]["val"])}
    return replace(before, splits=(splits, before.splits[1]))


OTHER: dict[str, Callable[[MergePlan], MergePlan]] = {
    "the task": lambda before: replace(before, task="obb"),
    "keypoints": lambda before: replace(before, keypoints=(2, 3)),
    "mirrored keypoints": lambda before: replace(before, flip_idx=(1, 0)),
    "an archive's bytes": lambda before: replace(before, digests=("2" * 64, "")),
    "class names": lambda before: replace(before, classes=replace(before.classes, class_names=("cat", "Dog", "ox"))),
    "class ids": lambda before: replace(before, classes=replace(before.classes, class_ids=((0, 1, 2), (1, None)))),
    "a label": labelled,
    "a split": moved,
    "the order of archives": lambda before: replace(before, splits=before.splits[::-1]),
    "an image of gold": without_gold_image,
    "labels that are united": lambda before: replace(
        before, united=(LabelUnion(0, (ImageCopy(0, "a", None), ImageCopy(1, "b", "b"))),)
    ),
    "no gold": lambda before: replace(before, gold=None),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_is_written_changes_the_digest(change: Callable[[MergePlan], MergePlan]) -> None:
    assert plan_digest(change(plan())) != plan_digest(plan())


def test_what_is_not_written_does_not() -> None:
    before = plan()
    same = replace(before, archives=("x.zip", "y.zip"), conflicts=(), left_out=(), repeated=7)
    assert plan_digest(same) == plan_digest(before)
    reordered = replace(before, splits=tuple(dict(reversed([*own.items()])) for own in before.splits))
    assert plan_digest(reordered) == plan_digest(before)


def test_it_is_the_same_in_every_process() -> None:
    """Whatever seed strings are hashed by."""
    program = "from tests.tasks.merge.test_fingerprint import plan, plan_digest; print(plan_digest(plan()))"
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == plan_digest(plan())
