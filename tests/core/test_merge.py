"""Merging class lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.merge import MergePlan, plan_merge, remap_labels, unknown_renames

NAMES = st.lists(st.sampled_from(["cat", "Cat", "big dog", "big_dog", "Big-Dog", "bird", "fish"]), unique=True)


@pytest.mark.parametrize(
    ("datasets", "renames", "expected"),
    [
        ([["a", "b"], ["b", "c"]], {}, MergePlan(("a", "b", "c"), ((0, 1), (1, 2)))),
        ([["a", "b", "c"], ["c", "b", "a"]], {}, MergePlan(("a", "b", "c"), ((0, 1, 2), (2, 1, 0)))),
        ([["Big Dog"], ["big_dog"], ["big-dog "]], {}, MergePlan(("Big Dog",), ((0,), (0,), (0,)))),
        ([["cat", "kitten"], ["blur"]], {"kitten": "cat", "blur": None}, MergePlan(("cat",), ((0, 0), (None,)))),
        ([["x"]], {"x": "y"}, MergePlan(("y",), ((0,),))),
        ([["a", "b"]], {"a": "b", "b": "a"}, MergePlan(("b", "a"), ((0, 1),))),
    ],
)
def test_plan(datasets: list[list[str]], renames: dict[str, str | None], expected: MergePlan) -> None:
    assert plan_merge(datasets, renames) == expected


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_every_class_keeps_its_name(datasets: list[list[str]]) -> None:
    """A merged id points at the name it came from, in whatever spelling, and ids leave no gap."""
    plan = plan_merge(datasets, {})
    for names, ids in zip(datasets, plan.class_ids, strict=True):
        for name, merged in zip(names, ids, strict=True):
            assert merged is not None
            assert plan.class_names[merged].casefold().replace("_", " ").replace("-", " ") == name.casefold().replace(
                "_", " "
            ).replace("-", " ")
    assert {merged for ids in plan.class_ids for merged in ids} == set(range(len(plan.class_names)))


def test_labels_get_merged_ids_and_keep_their_numbers() -> None:
    text = "0 0.1 0.2 0.3 0.4\n1\t0.5 0.5 0.1 0.1  \n\n2 0.10 0.20 0.30 0.40\n"
    assert remap_labels(text, (2, None, 0)) == "2 0.1 0.2 0.3 0.4\n0 0.10 0.20 0.30 0.40\n"


def test_a_misspelled_rename_is_found() -> None:
    assert unknown_renames([["cat"], ["Dog"]], {"dog": "animal", "cta": "animal"}) == ["cta"]
