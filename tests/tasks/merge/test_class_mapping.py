"""Class lists of several archives become one, the same everywhere."""

import os
import random
import subprocess
import sys
import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.merge.class_mapping import (
    ClassPlan,
    bind_renames,
    find_similar_names,
    find_unknown_renames,
    match_class_ids,
    plan_classes,
)
from tasks.merge.conflicts import MergeCode
from tasks.parameters import MergePolicy

Renames = dict[str, str | None]
Names = list[list[str]]
MEANT = {  # what each spelling means
    **dict.fromkeys(["cat", "Cat", "cats"], "cat"),
    **dict.fromkeys(["big dog", "big_dog", "Big-Dogs"], "big dog"),
    **dict.fromkeys(["box", "boxes"], "box"),
    **dict.fromkeys(["  fish ", "FISH"], "fish"),
    **{name: name for name in ("bird", "-", "_")},
}
SPELLINGS = sorted(MEANT)
LISTS = st.lists(st.lists(st.sampled_from(SPELLINGS), unique=True, max_size=6), min_size=1, max_size=4)


def planned(names: Names, renames: Renames | None = None) -> ClassPlan:
    return plan_classes([f"{letter}.zip" for letter in "abcdef"[: len(names)]], names, renames or {})


def unknown(names: Names, renames: Renames) -> list[str]:
    return find_unknown_renames([f"{letter}.zip" for letter in "abcdef"[: len(names)]], names, renames)


PLANS: dict[str, tuple[Names, Renames, tuple[str, ...], tuple[tuple[int | None, ...], ...]]] = {
    "what the next adds": ([["a", "b"], ["b", "c"]], {}, ("a", "b", "c"), ((0, 1), (1, 2))),
    "reversed": ([["a", "b", "c"], ["c", "b", "a"]], {}, ("a", "b", "c"), ((0, 1, 2), (2, 1, 0))),
    "spelling": ([["Big Dog"], ["big_dog"], [" big--dog "]], {}, ("Big Dog",), ((0,), (0,), (0,))),
    "accents": ([["caf\u00e9"], ["CAFE\u0301"]], {}, ("caf\u00e9",), ((0,), (0,))),
    "plural": ([["Platelets"], ["platelet"]], {}, ("Platelets",), ((0,), (0,))),
    "a letter is another class": ([["a"], ["b"]], {}, ("a", "b"), ((0,), (1,))),
    "told apart": ([["car", "cars"], ["Cars"], ["CAR"]], {}, ("car", "cars"), ((0, 1), (1,), (0,))),
    "told apart later": ([["Cars"], ["car", "cars"]], {}, ("Cars", "car"), ((0,), (1, 0))),
    "told apart by case": ([["Cat", "cat"], ["cat"]], {}, ("Cat", "cat"), ((0, 1), (1,))),
    "signs": ([["+", "-", "_"]], {}, ("+", "-", "_"), ((0, 1, 2),)),
    "signs of two archives": ([["-"], ["_"]], {}, ("-", "_"), ((0,), (1,))),
    "grades": ([["A", "A-"], ["A-"]], {}, ("A", "A-"), ((0, 1), (1,))),
    "mapped and dropped": ([["cat", "kitten"], ["x"]], {"kitten": "cat", "x": None}, ("cat",), ((0, 0), (None,))),
    "any other": ([["cat", "dog", "x"]], {"*": "item", "x": None, "dog": "dog"}, ("item", "dog"), ((0, 1, None),)),
    "any other of one archive": ([["cat", "dog"], ["cat"]], {"a.zip:*": "item"}, ("item", "cat"), ((0, 0), (1,))),
    "renamed": ([["x"]], {"x": "y"}, ("y",), ((0,),)),
    "swapped": ([["a", "b"]], {"a": "b", "b": "a"}, ("b", "a"), ((0, 1),)),
    "to another's class": ([["cat"], ["kitty"]], {"kitty": "CATS"}, ("cat",), ((0,), (0,))),
    "by another spelling": ([["Big Dog"]], {"big_dogs": "dog"}, ("dog",), ((0,),)),
    "of one archive": ([["x"], ["x"]], {"b.zip:x": "y"}, ("x", "y"), ((0,), (1,))),
    "of one archive, spelled": ([["x y"], ["X-Y"]], {"b.zip:x_y": None}, ("x y",), ((0,), (None,))),
    "one archive's own first": ([["x"], ["x"]], {"x": "y", "b.zip:x": None}, ("y",), ((0,), (None,))),
    "the exact spelling first": ([["cat"], ["Cat"]], {"Cat": None, "cat": "cat"}, ("cat",), ((0,), (None,))),
    "a colon in a name": ([["a.zip:x", "x"]], {"a.zip:a.zip:x": "z"}, ("z", "x"), ((0, 1),)),
    "dropped in all": ([["x"], ["X"]], {"x": None}, (), ((None,), (None,))),
    "one name twice": ([["a", "a", "A"]], {}, ("a", "A"), ((0, 0, 1),)),
    "no classes": ([[], ["a"]], {}, ("a",), ((), (0,))),
}


@pytest.mark.parametrize(("names", "renames", "merged", "ids"), PLANS.values(), ids=PLANS)
def test_classes_of_archives_become_one_list_by_name_and_renames(
    names: Names, renames: Renames, merged: tuple[str, ...], ids: tuple[tuple[int | None, ...], ...]
) -> None:
    assert planned(names, renames) == ClassPlan(merged, ids)


@given(LISTS)
def test_every_class_keeps_its_name_and_ids_have_no_gap(names: Names) -> None:
    plan = planned(names)
    for own, ids in zip(names, plan.class_ids, strict=True):
        for name, merged in zip(own, ids, strict=True):
            assert merged is not None
            assert MEANT[plan.class_names[merged]] == MEANT[name]
        assert len(set(ids)) == len(ids), "what an archive tells apart stays apart"
    order = list(dict.fromkeys(merged for ids in plan.class_ids for merged in ids))
    assert order == list(range(len(plan.class_names))), "the first archive's order, then the next's"


@given(LISTS)
def test_the_order_of_archives_changes_ids_and_never_which_classes_are_one(names: Names) -> None:
    def pairs(order: tuple[int, ...]) -> set[tuple[tuple[int, int], tuple[int, int]]]:
        plan = planned([names[at] for at in order])
        ids = {(at, n): i for at, own in zip(order, plan.class_ids, strict=True) for n, i in enumerate(own)}
        return {(one, other) for one in ids for other in ids if ids[one] == ids[other]}

    orders = list(permutations(range(len(names))))
    assert all(pairs(order) == pairs(orders[0]) for order in orders[1:])


def test_the_plan_does_not_depend_on_the_hash_seed() -> None:
    code = """
from tasks.merge.class_mapping import find_similar_names, plan_classes
plan = plan_classes("ab", [["zebra", "cars", "car", "platelet"], ["CAR", "platlet", "ox"]], {"zebra": "zebras"})
print(plan, [conflict.message for conflict in find_similar_names(plan, {})])
"""

    def out(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert "zebras" in out("0")
    assert out("0") == out("1")


PLURALS = {
    "cats": "cat",
    "boxes": "box",
    "berries": "berry",
    "movies": "movie",
    "horses": "horse",
    "houses": "house",
    "tomatoes": "tomato",
    "shoes": "shoe",
    "watches": "watch",
    "caches": "cache",
    "glasses": "glass",
    "buses": "bus",
    "axes": "axe",
    "ties": "tie",
    "traffic lights": "traffic light",
    "trees": "tree",
}


@pytest.mark.parametrize(("plural", "one"), PLURALS.items())
def test_a_simple_plural_is_the_same_class(plural: str, one: str) -> None:
    assert planned([[one], [plural.title()]]).class_ids == ((0,), (0,))


@pytest.mark.parametrize(
    ("one", "other"), [("glass", "glas"), ("bus", "bu"), ("iris", "iri"), ("s", "se"), ("gas", "ga")]
)
def test_not_every_s_is_a_plural(one: str, other: str) -> None:
    assert planned([[one], [other]]).class_ids == ((0,), (1,))


def test_a_misspelled_rename_is_found() -> None:
    names = [["cat"], ["Dogs"]]
    known: Renames = {"dog": "x", "b.zip:DOG": "x", "a.zip:cat": None}
    wrong: Renames = {"cta": "x", "b.zip:cat": None, "c.zip:cat": None, "": "x"}
    assert unknown(names, known) == []
    assert unknown(names, {**known, **wrong}) == list(wrong)


def similar(names: Names, renames: Renames | None = None) -> list[str]:
    conflicts = list(find_similar_names(planned(names, renames), renames or {}))
    assert all(conflict.code == MergeCode.SIMILAR_NAMES and not conflict.fatal for conflict in conflicts)
    return [conflict.message for conflict in conflicts]


@pytest.mark.parametrize(
    ("one", "other"),
    [("platelet", "platlet"), ("Trafic Light", "traffic lights"), ("person", "persom"), ("helmet", "helemt"),
     ("dining table", "DiningTable"), ("truck", "truckk"), ("class 1 helmet", "class 1 helmt")],
)  # fmt: skip
def test_nearly_equal_names_are_reported(one: str, other: str) -> None:
    (message,) = similar([[one, "ox"], ["gnu", other]])
    assert message.startswith("Expected names that tell classes apart, found ")
    assert f"{one!r} and {other!r}" in message


@pytest.mark.parametrize(
    ("one", "other"),
    [("class 1", "class 2"), ("model2021", "model2022"),
     ("car", "cart"), ("male face", "female face"), ("player a", "player b"),
     ("resistor 10k", "resistor 12k"), ("light red", "light green"), ("cat", "dog"), ("platelet", "Platelets")],
)  # fmt: skip
def test_names_that_tell_classes_apart_are_not_reported(one: str, other: str) -> None:
    assert similar([[one], [other]]) == []


def test_similar_names_within_one_archive_stay_apart() -> None:
    assert similar([["platelet", "platlet"], ["platelet"]]) == []
    assert len(similar([["platelet", "platlet"], ["plattelet"]])) == 2


def test_a_decision_settles_similar_names() -> None:
    names = [["platelet"], ["platlet"]]
    assert len(similar(names)) == 1
    assert similar(names, {"platlet": "platelet"}) == []
    assert similar(names, {"platlet": "platlet", "platelet": "platelet"}) == []
    assert similar(names, {"platlet": None}) == []
    assert len(similar([*names, ["plattelet"]], {"platlet": "platelet"})) == 1, "the third is not decided"


def test_hostile_lists_take_no_time() -> None:
    began = time.perf_counter()
    shuffled = random.Random(0)  # noqa: S311
    names = [["".join(shuffled.sample("abcdefghij" * 10, 100)) for _ in range(1000)] for _ in "ab"]
    list(find_similar_names(planned(names), {}))
    list(find_similar_names(planned([["a" * 300_000 + "b"], ["a" * 300_000 + "c"]]), {}))
    assert time.perf_counter() - began < 15


@pytest.mark.parametrize("target", ["", " cat", "a\nb", "a\x00", "x" * 201])
def test_a_name_that_nobody_could_read_is_refused(target: str) -> None:
    assert MergePolicy(classes={"a": "big cat"}).classes == {"a": "big cat"}
    with pytest.raises(ValidationError):
        MergePolicy(classes={"a": target})


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ("a b c", "c a b", (1, 2, 0)),
        ("a b", "b", (None, 0)),
        ("cat Big_Dog", "big-dogs CATS emu", (1, 0)),
        ("cat cats", "cats", (None, 0)),
        ("cat", "cats cat", (1,)),
        ("a", "x", (None,)),
        ("a", "a a", (0,)),
        ("", "a", ()),
        ("a", "", (None,)),
    ],
)
def test_class_ids_are_matched_by_name_whatever_order_and_spelling(
    own: str, other: str, expected: tuple[int | None, ...]
) -> None:
    assert match_class_ids(own.split(), other.split()) == expected


@given(LISTS)
def test_a_list_matches_itself(names: Names) -> None:
    assert match_class_ids(names[0], names[0]) == tuple(range(len(names[0])))


@pytest.mark.parametrize(
    ("names", "renames", "expected"),
    [
        ([["cat"]], {"cat": "animal"}, {"cat": "animal"}),
        (
            [["head", "helmet"], ["helmet"]],
            {"head": "helmet", "helmet": "head"},
            {
                "a.zip:head": "helmet",
                "a.zip:helmet": "head",
                "b.zip:helmet": "head",
                "head": "head",
                "helmet": "helmet",
            },
        ),
        (
            [["cat", "animal"]],
            {"cat": "animal", "animal": None},
            {"cat": "animal", "a.zip:animal": None, "animal": "animal"},
        ),
        ([["cat", "dog"]], {"cat": "pet", "*": None}, {"cat": "pet", "*": None, "pet": "pet"}),
        ([["cat", "dog"]], {"cat": "cat", "*": "other"}, {"cat": "cat", "*": "other"}),
        (
            [["cat"]],
            {"cat": "pet", "kitten": "pet", "z.zip:dog": None},
            {"cat": "pet"},
        ),  # of archives that are left out
    ],
)
def test_what_has_the_names_of_an_earlier_merge_is_not_renamed_again(
    names: Names, renames: Renames, expected: Renames
) -> None:
    archives = {f"{letter}.zip": own for letter, own in zip("abcdef", names, strict=False)}
    assert bind_renames(renames, archives, {}, planned(names, renames).class_names) == expected


@pytest.mark.parametrize(
    ("again", "others", "expected"),
    [
        ({}, {"new.zip": ["cat"]}, {"cat": "animal"}),
        ({}, {"since.zip": ["animal"]}, {}),
        ({}, {"new.zip": ["cat"], "since.zip": ["animal"]}, {"cat": "animal"}),
        ({"a.zip": ["cat"]}, {"new.zip": ["bird"]}, {"cat": "animal"}),
        ({}, {"b.zip": ["lynx"]}, {"b.zip:lynx": None}),
    ],
)
def test_a_rename_that_an_archive_needs_is_kept_also_if_the_archive_is_new(
    again: dict[str, list[str]], others: dict[str, list[str]], expected: Renames
) -> None:
    """Else a class that was renamed comes back beside its new name."""
    assert bind_renames({"cat": "animal", "b.zip:lynx": None}, again, others, ["animal"]) == expected


@given(LISTS, st.dictionaries(st.sampled_from([*SPELLINGS, "*"]), st.sampled_from([*SPELLINGS, None]), max_size=6))
def test_a_merge_with_what_was_labelled_since_gives_each_archive_the_classes_that_it_had(
    names: Names, renames: Renames
) -> None:
    before = planned(names, renames)
    archives = {f"{letter}.zip": own for letter, own in zip("abcdef", names, strict=False)}
    since = [*before.class_names]
    bound = bind_renames(renames, archives, {"since.zip": since}, since)
    after = planned([*names, since], bound)
    assert after.class_names == before.class_names
    assert after.class_ids == (*before.class_ids, tuple(range(len(before.class_names))))
    assert not unknown([*names, since], bound)
