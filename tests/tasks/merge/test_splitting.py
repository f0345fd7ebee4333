"""New splits: their sizes, their classes, and what stays together."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.merge.splitting import split_images

SHARES = {"train": 0.8, "val": 0.15, "test": 0.05}


def drawn(count: int, seed: int) -> dict[str, Counter[str | None]]:
    """Images with a class that most show, and one that few show."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    rates = {"often": 0.9, "half": 0.5, "rare": 0.03}
    return {
        f"{number}.jpg": Counter({name: chance.randint(1, 4) for name, rate in rates.items() if chance.random() < rate})
        for number in range(count)
    }


@pytest.mark.parametrize("seed", range(5))
def test_each_split_gets_its_share_of_the_images_and_of_each_class(seed: int) -> None:
    classes = drawn(1000, seed)
    splits = split_images(classes, [], SHARES, seed)
    shown = {split: Counter[str | None]() for split in SHARES}
    for image, split in splits.items():
        shown[split] += classes[image]
    total = sum(shown.values(), Counter[str | None]())
    for split, share in SHARES.items():
        assert abs(sum(found == split for found in splits.values()) - 1000 * share) <= 5
        for name in total:
            assert abs(shown[split][name] - share * total[name]) <= max(4, 0.02 * total[name]), (split, name)


@given(
    count=st.integers(1, 30),
    links=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=20),
    seed=st.integers(0, 5),
)
def test_linked_images_stay_together_and_the_seed_decides(count: int, links: list[tuple[int, int]], seed: int) -> None:
    classes = drawn(count, seed)
    named = [(f"{one}.jpg", f"{other}.jpg") for one, other in links if max(one, other) < count]
    splits = split_images(classes, named, SHARES, seed)
    assert splits.keys() == classes.keys()
    assert all(splits[one] == splits[other] for one, other in named)
    assert splits == split_images(classes, named, SHARES, seed)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 10])
@pytest.mark.parametrize("val", [0.1, 0.2])
def test_few_images_leave_some_to_train_on_and_to_measure_with(count: int, val: float) -> None:
    splits = Counter(split_images(drawn(count, 1), [], {"train": 1 - val, "val": val}, 0).values())
    assert splits["train"] >= splits["val"] >= min(1, count - 1)


def test_a_split_that_is_kept_takes_what_is_linked_to_it_and_the_rest_is_shared_out() -> None:
    classes = drawn(100, 1)
    kept = {"0.jpg": "test", "1.jpg": "val", "2.jpg": "train"}
    splits = split_images(classes, [("0.jpg", "3.jpg"), ("1.jpg", "2.jpg")], {"train": 0.8, "val": 0.2}, 0, kept)
    assert splits | kept | {"3.jpg": "test"} == splits
    counts = Counter(split for image, split in splits.items() if image not in {*kept, "3.jpg"})
    assert counts["test"] == 0
    assert abs(counts["val"] - 0.2 * 96) <= 1
