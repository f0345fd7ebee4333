"""What a trial of a new version decides, and which runs take part in it."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from tasks.parameters import CanaryParams
from tasks.serving.canary_rules import (
    Canary,
    CanaryProgress,
    RequestStats,
    VersionStats,
    canary_table,
    canary_violations,
    routes_to_canary,
)


def answers(images: int = 100, per_image: float = 2.0, failed: int = 0, milliseconds: float = 30.0) -> VersionStats:
    answered = images - failed
    return VersionStats(
        images=images,
        detections=round(images * per_image),
        requests=RequestStats(answered=answered, failed=failed, milliseconds=answered * milliseconds),
    )


CHAMPION = answers()
PARAMS = CanaryParams()


@pytest.mark.parametrize(
    ("challenger", "said"),
    [
        ({}, ()),
        ({"images": 20}, ()),
        ({"images": 19}, ("20 images of the new version to judge it by, found 19",)),
        ({"failed": 1}, ()),
        ({"failed": 2}, ("at most 1.0% failed requests, found 2.0% of 100",)),
        ({"milliseconds": 45.0}, ()),
        ({"milliseconds": 46.0}, ("requests of at most 45.0 ms, found 46.0 ms, and the champion takes 30.0 ms",)),
        ({"per_image": 3.0}, ()),
        ({"per_image": 1.0}, ()),
        ({"per_image": 3.1}, ("within 50% of the champion's 2.00, found 3.10",)),
        ({"per_image": 0.0}, ("found 0.00",)),
        ({"failed": 50, "per_image": 0.0, "milliseconds": 99}, ("failed requests", "requests of at most", "within")),
    ],
    ids=str,
)
def test_all_that_speaks_against_it_is_reported(challenger: Mapping[str, Any], said: tuple[str, ...]) -> None:
    found = canary_violations(CHAMPION, answers(**challenger), PARAMS)
    assert len(found) == len(said), found
    for sentence, part in zip(found, said, strict=True):
        assert part in sentence


def test_without_a_champion_at_work_there_is_nothing_to_compare_with() -> None:
    (said,) = canary_violations(answers(images=3), answers(), PARAMS)
    assert "20 images of the champion to compare with, found 3" in said


def test_two_versions_that_find_nothing_agree() -> None:
    assert canary_violations(answers(per_image=0), answers(per_image=0), PARAMS) == []


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_the_share_of_runs_is_kept_and_a_retry_decides_the_same(share: float) -> None:
    canary = Canary(version=2, share=share, flow_run_id=str(uuid4()))
    runs = [str(uuid4()) for _ in range(2000)]
    chosen = [routes_to_canary(canary, run) for run in runs]
    assert abs(sum(chosen) / 2000 - share) < 0.05
    assert chosen == [routes_to_canary(canary, run) for run in runs]


def test_another_trial_chooses_other_runs() -> None:
    runs = [str(uuid4()) for _ in range(100)]
    first, second = (Canary(version=2, share=0.5, flow_run_id=str(uuid4())) for _ in range(2))
    assert [routes_to_canary(first, run) for run in runs] != [routes_to_canary(second, run) for run in runs]


def test_requests_since_a_moment() -> None:
    assert RequestStats(answered=10, failed=2, milliseconds=300.0).since(
        RequestStats(answered=4, failed=1, milliseconds=100.0)
    ) == RequestStats(answered=6, failed=1, milliseconds=200.0)


def test_a_server_that_was_started_anew_counts_from_zero() -> None:
    assert RequestStats(answered=3, failed=0, milliseconds=90.0).since(
        RequestStats(answered=4, failed=1, milliseconds=100.0)
    ) == RequestStats(answered=3, failed=0, milliseconds=90.0)


def test_the_table_has_both_side_by_side() -> None:
    table = canary_table(CHAMPION, answers(images=50, failed=5, milliseconds=20))
    assert "| milliseconds a request | 30.0 | 20.0 |" in table
    assert "| failed requests | 0 | 5 |" in table


def progress(**params: Any) -> CanaryProgress:
    """Of version 1 beside version 2, begun at 1000 s."""
    return CanaryProgress(1, 2, CanaryParams(**params), 1000.0)


def counted(champion: int, challenger: int) -> dict[int, VersionStats]:
    return {1: VersionStats(images=champion), 2: VersionStats(images=challenger)}


@pytest.mark.parametrize(
    ("images", "champion", "challenger", "is_over"),
    [
        (100, 100, 99, False),
        (100, 99, 100, False),
        (100, 100, 100, True),
        (10, 10, 10, False),  # min_images is 20
        (10, 20, 20, True),
        (0, 10_000, 10_000, False),  # minutes alone count
    ],
)
def test_a_canary_is_over_when_both_versions_have_answered_for_enough_images(
    images: int, champion: int, challenger: int, is_over: bool
) -> None:
    canary = progress(images=images, min_images=20)
    assert canary.update(counted(champion, challenger), 1001.0) is is_over
    assert [stats.images for stats in canary.stats] == [champion, challenger]


def test_a_canary_is_over_when_its_time_is_over() -> None:
    canary = progress(minutes=2)
    assert not canary.update({}, 1119.9)
    assert canary.update({}, 1120.0)
    assert canary.stats == (VersionStats(), VersionStats())


def test_a_canary_logs_its_images_once_a_minute() -> None:
    canary = progress(minutes=60)
    lines = []
    for now in (1001.0, 1060.0, 1062.0, 1119.0, 1120.0):
        canary.update(counted(5, 3), now)
        lines.append(canary.log_line)
    line = "the champion has answered for 5 images, the new version for 3"
    assert lines == [None, line, None, None, line]
