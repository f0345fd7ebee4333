"""Which classes are known in which image of a merged dataset, and how that follows its images."""

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.merge.conflicts import MergeCode
from tasks.merge.plan import blocking_conflicts
from tasks.merge.steps import write_relabelled_split, write_smoke_test_subset
from tasks.merge.vocabularies import Vocabularies, plan_vocabularies, read_vocabularies
from tasks.merge.written_files import list_images
from tasks.parameters import MergePolicy
from tests.tasks.merge.archives import Entries, dataset, merge
from tests.tasks.merge.inputs import merged, source

CATS = dataset(0, "cat, dog")
BIRDS = dataset(20, "bird, dog")
CAT, DOG, BIRD = range(3)


@pytest.mark.parametrize(
    ("choice", "fatal", "settled", "masked"),
    [("mask", False, True, True), ("warn", False, False, False), ("fail", True, False, False)],
)
def test_what_is_unknown_is_masked_reported_or_refused(choice: str, fatal: bool, settled: bool, masked: bool) -> None:
    plan = merged(source(), source("b.zip", "cat ox", {"train": "vw", "val": "x"}), partial_labels=choice)
    assert {(each.fatal, each.settled) for each in plan.conflicts} == {(fatal, settled)}
    assert (plan.vocabularies is not None) == masked
    strict = MergePolicy.model_validate({"partial_labels": choice, "on_conflict": "fail"})
    assert bool(blocking_conflicts(plan, strict)) != settled


@pytest.mark.parametrize(("choice", "fatal"), [("mask", True), ("warn", False), ("fail", True)])
def test_what_is_unknown_of_the_one_class_is_reported_or_refused(choice: str, fatal: bool) -> None:
    """As single_cls makes it: an unlabelled ox may be an item."""
    classes = {"*": "item", "cow": None}
    other = source("b.zip", "cat dog ox", {"train": "vw", "val": "x"})
    plan = merged(source(), other, classes=classes, partial_labels=choice)
    (found,) = (each for each in plan.conflicts if each.code is MergeCode.PARTIAL_LABELS)
    assert (found.fatal, found.settled, plan.vocabularies) == (fatal, False, None)
    assert "found none of these in ['a.zip']. 'item' is all of them" in found.message
    alike = source("b.zip", "dogs cow Cat", {"train": "vw", "val": "x"})
    assert not merged(source(), alike, classes=classes, partial_labels=choice).conflicts


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("pqrs"), min_size=1), st.sets(st.sampled_from("abcdefg"))), min_size=2),
    st.dictionaries(st.sampled_from("pqrs"), st.none() | st.just("t")),
)
def test_a_class_is_known_exactly_where_an_archive_of_the_image_names_it(
    archives: list[tuple[set[str], set[str]]], classes: dict[str, str | None]
) -> None:
    sources = [
        source(f"{number}.zip", " ".join(sorted(names)), {"train": "".join(sorted(letters)), "val": "z"})
        for number, (names, letters) in enumerate(archives)
    ]
    plan = merged(*sources, classes=classes)
    for number, own in enumerate(plan.splits):
        known = plan_vocabularies(plan.classes, plan.splits, plan.united).of_archive(number, own)
        for letter, vocabulary in zip((sample.image[-5] for sample in chain(*own.values())), known, strict=True):
            named = set().union(*(names for names, letters in archives if letter in letters | {"z"}))
            renamed = {classes.get(name, name) for name in named} - {None}
            assert {plan.classes.class_names[each] for each in vocabulary} == renamed


def seen(data: Path) -> dict[frozenset[int], int]:
    """Vocabulary -> the number of images in train and val that have it."""
    vocabularies = read_vocabularies(data)
    assert vocabularies is not None
    found = [vocabularies.of_image(path) for split in ("train", "val") for path in list_images(data, "detect", split)]
    return {each: found.count(each) for each in set(found)}


def test_an_image_knows_the_classes_of_all_archives_that_label_it(tmp_path: Path) -> None:
    shared: Entries = {key: value for key, value in CATS.items() if key in {"images/train/1.jpg", "labels/train/1.txt"}}
    _, written = merge(tmp_path, CATS, {**BIRDS, **shared})
    assert written.class_names == ("cat", "dog", "bird")
    assert seen(written.data) == {
        frozenset({CAT, DOG}): 5,
        frozenset({CAT, DOG, BIRD}): 1,
        frozenset({BIRD, DOG}): 5,
    }


def test_labels_that_merge_classes_drops_in_one_archive_are_unknown_there(tmp_path: Path) -> None:
    _, written = merge(tmp_path, CATS, dataset(20, "cat, dog"), classes={"b.zip:dog": None})
    assert seen(written.data) == {frozenset({CAT, DOG}): 6, frozenset({CAT}): 6}


def test_archives_of_the_same_classes_are_complete(tmp_path: Path) -> None:
    _, written = merge(tmp_path, CATS, dataset(20, "dog, cat"))
    assert read_vocabularies(written.data) is None


@pytest.mark.parametrize(("choice", "masked"), [("mask", True), ("warn", False)])
def test_the_gold_archive_does_not_know_the_classes_that_it_does_not_label(
    choice: str, masked: bool, tmp_path: Path
) -> None:
    _, written = merge(tmp_path, CATS, gold=BIRDS, partial_labels=choice)
    assert read_vocabularies(written.data) is None
    assert written.gold is not None
    view = write_relabelled_split.fn(written.gold, "detect", written.class_names, ("dog", "cat"), tmp_path / "view")
    for data, number in ((written.gold, DOG), (view, 0)):
        vocabularies = read_vocabularies(data)
        images = list_images(data, "detect", "val")
        found = [vocabularies.of_image(path) for path in images] if vocabularies else None
        assert found == ([frozenset({number})] * 6 if masked else None)


def test_the_views_of_a_dataset_know_what_it_knows(tmp_path: Path) -> None:
    _, written = merge(tmp_path, CATS, BIRDS)
    few = write_smoke_test_subset.fn(written, tmp_path / "few", 4)
    assert set(seen(few)) == {frozenset({CAT, DOG}), frozenset({BIRD, DOG})}
    view = write_relabelled_split.fn(written.data, "detect", written.class_names, ("dog", "bird"), tmp_path / "view")
    vocabularies = read_vocabularies(view)
    assert vocabularies == Vocabularies((frozenset({0}), frozenset({0, 1})), {})
