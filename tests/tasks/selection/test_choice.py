"""Which images are chosen: what each strategy finds of what is planted in a pool, and within which budget."""

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from tasks.parameters import SelectionParams, SelectionShares
from tasks.selection.choice import Choice, choose
from tasks.selection.pool import LearntImages, Pool
from tests.tasks.selection.pools import CLASSES, found, image, planted_pool

SEEDS = range(20)
IMAGES = 20
pool_of = cache(planted_pool)


def choice_of(pool: Pool, **selection: Any) -> Choice:
    return choose(pool, SelectionParams(**selection))


def pool(*images: Any, learnt: LearntImages | None = None, classes: tuple[str, ...] = CLASSES) -> Pool:
    return Pool(images=images, learnt=learnt, class_names=classes)


@pytest.mark.parametrize(
    ("strategy", "finds"),
    [
        ("random", {}),
        ("uncertainty", {"unsure": 0.8}),
        ("diversity", {"new": 0.9}),
        ("rare-classes", {"rare": 0.95}),
        ("drift", {"new": 0.9}),
        ("mixed", {"rare": 0.4, "new": 0.4, "unsure": 0.6}),
    ],
)
def test_each_strategy_finds_what_it_is_for(strategy: str, finds: dict[str, float]) -> None:
    """Of 10 images planted of each kind among 160, by 20 choices; chance finds an eighth, and nothing finds twins."""
    shares: dict[str, list[float]] = {"rare": [], "new": [], "unsure": [], "twins": []}
    for seed in SEEDS:
        planted, where = pool_of(seed)
        choice = choice_of(planted, strategy=strategy, images=IMAGES, seed=seed)
        chosen = {each.image for each in choice.chosen}
        for kind, own in shares.items():
            own.append(len(chosen & where[kind]) / len(where[kind]))
        assert set(choice.duplicates) == where["twins"]
    for kind, least in finds.items():
        assert np.mean(shares[kind]) >= least
    assert np.mean(shares["twins"]) == 0
    if strategy == "random":
        assert all(0.04 < np.mean(own) < 0.25 for kind, own in shares.items() if kind != "twins")


def test_the_same_pool_and_seed_give_the_same_choice() -> None:
    planted, _ = pool_of(0)
    for strategy in ("random", "mixed"):
        first, again, other = (choice_of(planted, strategy=strategy, images=9, seed=seed) for seed in (3, 3, 4))
        assert first == again
        assert (first.chosen != other.chosen) == (strategy == "random")


def test_shares_say_how_many_each_strategy_chooses() -> None:
    planted, _ = pool_of(0)
    shares = {"uncertainty": 3, "diversity": 2, "rare_classes": 1, "drift": 1, "disagreement": 1, "random": 3}
    choice = choice_of(planted, images=20, shares=shares)
    counts = {name: [each.strategy for each in choice.chosen].count(name) for name in shares | {"rare-classes": 1}}
    assert counts == {
        "rare-classes": 2,
        "uncertainty": 6,
        "drift": 2,
        "diversity": 4,
        "random": 6,
        "disagreement": 0,
        "rare_classes": 0,
    }
    assert "Strategy disagreement chose nothing: there is no challenger" in choice.remarks[0]


def test_what_a_strategy_lacks_the_next_one_gets() -> None:
    """Nothing is found in any of the images, so there is no doubt."""
    empty = pool(*(image(at, found(), np.eye(8)[at]) for at in range(8)), classes=("cell",))
    choice = choice_of(empty, images=6, shares={"uncertainty": 1, "diversity": 1, "rare_classes": 0, "drift": 0})
    assert [each.strategy for each in choice.chosen] == ["diversity"] * 6


def test_what_the_last_strategy_lacks_those_before_it_get() -> None:
    """Few images are unlike what is learnt, and many are doubtful."""
    planted, _ = pool_of(0)
    only = {name: int(name in {"uncertainty", "drift"}) for name in SelectionShares.model_fields}
    choice = choice_of(planted, images=100, shares=only)
    counts = Counter(each.strategy for each in choice.chosen)
    assert counts["uncertainty"] > 50 > counts["drift"] > 0
    assert len({each.image for each in choice.chosen}) == counts.total() == 100


def test_diversity_passes_over_what_resembles_a_choice() -> None:
    learnt = LearntImages(embeddings=np.array([[1, 0, 0]], np.float32), class_counts=np.ones(len(CLASSES)))
    embeddings = np.array([[1, 0, 0.1], [0, 1, 0], [0, 1, 0.01], [1, 0, 0.5]], np.float32)
    choice = choice_of(
        pool(*(image(at, found(), each) for at, each in enumerate(embeddings)), learnt=learnt),
        strategy="diversity",
        images=2,
    )
    assert [each.image for each in choice.chosen] == [1, 3]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"strategy": "drift"}, "no image to be had that the version has learnt"),
        ({"strategy": "disagreement"}, "no challenger"),
        ({"strategy": "rare-classes"}, "one class"),
        (
            {"shares": dict.fromkeys(("uncertainty", "diversity", "rare_classes", "drift", "disagreement"), 0)},
            "No strategy has a share",
        ),
    ],
)
def test_without_a_strategy_that_has_something_to_go_by_none_is_chosen_and_it_says_why(
    selection: dict[str, Any], expected: str
) -> None:
    choice = choice_of(pool(image(0, found((0, 0.5)), [1, 0]), classes=("cell",)), **selection)
    assert (choice.chosen, expected in choice.remarks[0]) == ((), True)
    assert choice.remarks[1:] == ("0 of 100 images are chosen: no strategy speaks for the others.",)


def test_no_more_boxes_are_expected_than_the_budget_has() -> None:
    """Images that need more are passed over for those that need less."""
    crowd = [image(at, found(*[(0, 0.5)] * 8), [1, at]) for at in range(3)]
    few = [image(at, found((0, 0.5), (0, 0.5)), [1, at]) for at in range(3, 6)]
    choice = choice_of(pool(*crowd, *few), strategy="uncertainty", images=6, boxes=6)
    assert [each.image for each in choice.chosen] == [0, 3, 4]
    assert choice.remarks == ("3 of 6 images are chosen: the others need more boxes.",)


def test_each_choice_says_why() -> None:
    learnt = LearntImages(embeddings=np.eye(4, dtype=np.float32)[:2] * 1, class_counts=np.array([300.0, 40, 2]))
    looked_at = pool(
        image(0, found((0, 0.52), (0, 0.95), (1, 0.46), (0, 0.41), (0, 0.9)), [1, 0.1, 0, 0], views=0.62, versions=1),
        image(1, found((2, 0.9), (0, 0.98)), [0.9, 0.1, 0.1, 0], versions=0.9),
        image(2, found((0, 0.99)), [1, 0, 0.2, 0], versions=0.25),
        image(3, found((0, 0.99)), [0, 0, 0, 1], versions=1),
        learnt=learnt,
    )
    said = {
        strategy: (each.image, each.reason)
        for strategy in ("uncertainty", "rare-classes", "disagreement", "diversity", "random")
        for each in choice_of(looked_at, strategy=strategy, images=1).chosen
    }
    assert said["uncertainty"] == (
        0,
        "unsure about 3 of 5 objects: cell 0.52, platelet 0.46, cell 0.41; seen mirrored and smaller, 0.62 of it stays",
    )
    assert said["rare-classes"] == (1, "shows worm (0.90), about 2 of 342 objects in what was learnt")
    assert said["disagreement"] == (2, "the two versions agree on 0.25 of what they find")
    assert said["diversity"] == (3, "unlike what is learnt or chosen: 1 from the nearest of it")
    assert said["random"][1] == "drawn at random"
