"""What was approved is deployed only if it is still the same; with runs that wait: tests/flows/test_approval.py."""

from dataclasses import replace

import pytest

from tasks.deployment.approval import NotApprovedError, Subject, require_askable, staleness
from tasks.errors import StudioError
from tasks.parameters import ServingParams

ASKED = Subject(
    model_name="shapes", version=3, digest="aa", champion=2, deadline="2026-01-02T03:04:00+00:00", description=""
)
FIRST = replace(ASKED, champion=None)


@pytest.mark.parametrize(
    ("asked", "champion", "digest", "found"),
    [
        (ASKED, 2, "aa", []),
        (ASKED, 3, "aa", []),  # this run was killed after the version had become champion
        (FIRST, None, "aa", []),
        (ASKED, 1, "aa", ["the champion was version 2, and is version 1 now"]),
        (ASKED, None, "aa", ["the champion was version 2, and is none now"]),
        (FIRST, 2, "aa", ["the champion was none, and is version 2 now"]),
        (ASKED, 2, "bb", ["its graph was aa, and is bb now"]),
        (ASKED, 4, None, ["the champion was version 2, and is version 4 now", "its graph was aa, and is None now"]),
    ],
)
def test_something_else_than_was_approved_is_not_deployed(
    asked: Subject, champion: int | None, digest: str | None, found: list[str]
) -> None:
    reason = staleness(asked, champion, digest)
    assert (reason is None) == (not found)
    for part in found:
        assert part in str(reason)
    assert reason is None or reason.endswith("Start deploy-model/gpu again, which asks again.")


def test_a_run_that_cannot_wait_says_so_before_it_works() -> None:
    require_askable(ServingParams())
    with pytest.raises(StudioError, match="deploy-model/gpu, which can wait for a person"):
        require_askable(ServingParams(approval=True))


def test_a_no_is_no_failure() -> None:
    error = NotApprovedError("shapes version 3 was refused by Ann.")
    assert (error.declined, error.refused_by) == (True, "approval")
