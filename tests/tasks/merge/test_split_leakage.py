"""Nothing that belongs together is in two splits."""

import re
import time
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.merge.split_leakage import ExcludedImage, group_linked_images, resolve_leaks
from tasks.parameters import MergePolicy

DEARER = ("train", "val", "test")
SPLITS = st.dictionaries(st.sampled_from("abcdefghijklmno"), st.sampled_from(DEARER), min_size=1)


def gone(splits: Mapping[str, str], *links: str) -> str:
    return "".join(each.image for each in resolve_leaks(splits, [(link[0], link[1], "same") for link in links]))


def in_splits(train: str = "", val: str = "", test: str = "", gold: str = "") -> dict[str, str]:
    named = {"train": train, "val": val, "test": test, "gold": gold}
    return {image: split for split, images in named.items() for image in images}


TABLE = {
    "no links": (in_splits("ab", "c"), (), ""),
    "one split": (in_splits("ab", "c"), ("ab",), ""),
    "val over train": (in_splits("a", "b"), ("ab",), "a"),
    "test over val": (in_splits("", "a", "b"), ("ab",), "a"),
    "test over val and train": (in_splits("a", "b", "c"), ("ab", "bc"), "ab"),
    "the majority": (in_splits("ab", "c"), ("ab", "bc"), "c"),
    "the majority, by links onwards": (in_splits("ab", "c"), ("ac", "bc"), "c"),
    "two sets": (in_splits("ab", "cd"), ("ac", "bd"), "ab"),
    "an image linked to itself": (in_splits("a", "b"), ("aa",), ""),
    "gold over train": (in_splits("ab", "", "", "g"), ("ag", "bg"), "ab"),
    "gold over train, by links onwards": (in_splits("ab", "", "", "g"), ("ab", "bg"), "ab"),
    "val and test stay beside gold": (in_splits("", "a", "", "g"), ("ag",), ""),
    "val beside gold, whatever train has": (in_splits("abc", "v", "", "g"), ("ag", "bg", "cv", "vg"), "abc"),
    "val or test beside gold": (in_splits("a", "v", "t", "g"), ("ag", "vg", "tg"), "av"),
    "several of gold": (in_splits("", "", "", "gh"), ("gh",), ""),
    "the others stay": (in_splits("abx", "cy"), ("ac", "bx"), "a"),
}


@pytest.mark.parametrize(("splits", "links", "expected"), TABLE.values(), ids=TABLE)
def test_of_linked_images_those_of_one_split_stay(
    splits: dict[str, str], links: tuple[str, ...], expected: str
) -> None:
    assert gone(splits, *links) == expected


def test_the_image_that_it_is_linked_to_is_named() -> None:
    splits = in_splits("a", "xyz")
    links = [("x", "y", "one"), ("y", "z", "two"), ("z", "a", "three")]
    assert resolve_leaks(splits, links) == [ExcludedImage("a", "train", "z", "val", "three")]
    assert resolve_leaks(in_splits("ab", "xyz"), [*links, ("a", "b", "four")])[1] == ExcludedImage(
        "b", "train", "x", "val", "four"
    )


def test_what_is_left_out_because_of_gold_names_a_gold_image() -> None:
    splits = in_splits("ab", "", "", "g")
    assert resolve_leaks(splits, [("a", "g", "one"), ("b", "a", "two")]) == [
        ExcludedImage("a", "train", "g", "gold", "one"),
        ExcludedImage("b", "train", "g", "gold", "two"),
    ]


@given(SPLITS, st.data())
def test_linked_images_end_in_the_split_that_brute_force_finds(splits: dict[str, str], data: st.DataObject) -> None:
    images = st.sampled_from(sorted(splits))
    links = data.draw(st.lists(st.tuples(images, images, st.just("r")), max_size=12))
    left_out = resolve_leaks(splits, links)
    reach = {image: {image} for image in splits}
    for _ in splits:
        for one, other, _reason in links:
            reach[one] = reach[other] = reach[one] | reach[other]
            for image in reach[one]:
                reach[image] = reach[one]
    gone = {each.image for each in left_out}
    for members in reach.values():
        staying = {splits[image] for image in members - gone}
        counts = Counter(splits[image] for image in members)
        assert staying == {max(counts, key=lambda split: (counts[split], DEARER.index(split)))}
        assert {image for image in members if splits[image] not in staying} == members & gone
    for each in left_out:
        assert each.split == splits[each.image] != each.kept_split == splits[each.kept]
        assert each.kept in reach[each.image] - gone
    assert [each.image for each in left_out] == [image for image in splits if image in gone]


def grouped(pattern: str, *paths: str) -> list[set[str]]:
    sets: list[set[str]] = []
    for one, other, _ in group_linked_images({path: path for path in paths}, [pattern]):
        found = next((members for members in sets if other in members), None)
        sets.append({other, one}) if found is None else found.add(one)
    return sets


FRAMES = ("images/train/clip1-frame01.jpg", "images/val/clip1-frame02.jpg", "images/val/clip2-frame03.jpg")


@pytest.mark.parametrize(
    ("pattern", "paths", "expected"),
    [
        ("clip{group}-frame*.jpg", FRAMES, [set(FRAMES[:2])]),
        ("{group}-*", FRAMES, [set(FRAMES[:2])]),
        ("clip{group}-frame*.png", FRAMES, []),
        ("lip{group}-frame*.jpg", FRAMES, []),
        ("*lip{group}-frame*.jpg", FRAMES, [set(FRAMES[:2])]),
        ("{group}/*.jpg", ("t/v1/a.jpg", "t/v1/b.jpg", "t/v2/a.jpg"), [{"t/v1/a.jpg", "t/v1/b.jpg"}]),
        ("v{group}/x/*", ("v1/x/a.jpg", "t/v1/x/b.jpg", "v1/y/a.jpg"), [{"v1/x/a.jpg", "t/v1/x/b.jpg"}]),
        ("a.{group}.jpg", ("a.1.jpg", "ab1.jpg"), []),
        ("a{group}.jpg", ("a.jpg.jpg", "b/a.jpg.jpg"), [{"a.jpg.jpg", "b/a.jpg.jpg"}]),
    ],
)
def test_paths_with_the_same_group_in_a_pattern_are_linked(
    pattern: str, paths: tuple[str, ...], expected: list[set[str]]
) -> None:
    MergePolicy(groups=(pattern,))
    assert grouped(pattern, *paths) == expected


def test_each_pattern_has_groups_of_its_own() -> None:
    paths = {path: path for path in ("a1.jpg", "b1.jpg")}
    assert list(group_linked_images(paths, ["a{group}.jpg", "b{group}.jpg"])) == []


@given(
    st.tuples(*[st.text("ab/", max_size=2)] * 4, st.booleans(), st.booleans()),
    st.none() | st.tuples(st.text("ab/", max_size=3), *[st.text("ab", max_size=2)] * 3),
    st.text("ab/", max_size=12),
)
def test_a_pattern_fits_what_its_plain_reading_fits(
    parts: tuple[str, str, str, str, bool, bool], fills: tuple[str, str, str, str] | None, path: str
) -> None:
    """Most paths are the pattern itself, filled in and with something in front: it nearly fits, or does."""
    lead, before, after, end, star_before, star_after = parts
    pattern = lead + ("*" + before) * star_before + "{group}" + after + ("*" + end) * star_after
    if fills:
        front, first, group, second = fills
        path = front + lead + (first + before) * star_before + group + after + (second + end) * star_after
    plain = re.escape(pattern).replace(r"\*", "[^/]*?").replace(r"\{group\}", "([^/]+?)")
    found = re.search(f"(?:^|/){plain}$", path)
    other = next(iter(group_linked_images({"1": path, "2": path}, [pattern])), None)
    assert (other and other[2]) == (f"of one group ({found[1]})" if found else None)


def test_hostile_names_take_no_time() -> None:
    names = {str(at): "ab" * 490 + f"{at}.png" for at in range(2000)} | {
        f"s{at}": "a/" * 490 + ".png" for at in range(2000)
    }
    began = time.perf_counter()
    assert list(group_linked_images(names, ["*a{group}b*.jpg", "*{group}a*b", "a/a/a/*a{group}b*"])) == []
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("pattern", ["clip*", "{group}{group}", "a**{group}", "{group}*", "*a*{group}", "{other}", ""])
def test_a_pattern_that_cannot_group_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        MergePolicy(groups=(pattern,))
