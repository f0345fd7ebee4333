"""A name is of one review, from before people work until it cannot be needed any longer; with the real server."""

from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Suspended

from tasks.review import archive_names
from tasks.review.archive_names import ReservedNameError
from tasks.review.rounds import ROUND, round_key
from tasks.storage.object_store import ObjectStore
from tests.prefect_runs import make_run

RUNS = ObjectStore("runs")


def reserve(archive: str, run: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_names, "flow_run_id", lambda: str(run))
    archive_names.reserve_name.fn(archive)


@pytest.mark.parametrize(
    ("states", "has_round", "is_free"),
    [
        ((Running(),), False, False),
        ((Suspended(),), True, False),
        ((Running(), Crashed()), True, False),
        ((Running(), Failed()), True, False),
        ((Running(), Failed()), False, True),
        ((Running(), Cancelled()), True, True),
        ((Running(), Completed()), True, True),
    ],
    ids=lambda value: "-".join(state.name for state in value) if isinstance(value, tuple) else str(value),
)
def test_a_second_review_is_refused_as_long_as_the_first_may_make_the_archive(
    client: SyncPrefectClient,
    deployment: UUID,
    monkeypatch: pytest.MonkeyPatch,
    states: tuple[State, ...],
    has_round: bool,
    is_free: bool,
) -> None:
    """One that has failed can be retried, and its answers are there still; other attempts of the first go on."""
    archive = f"{uuid4().hex}.zip"
    first, second = make_run(client, deployment, *states), make_run(client, deployment, Running())
    reserve(archive, first, monkeypatch)
    reserve(archive, first, monkeypatch)
    if has_round:
        RUNS.put(round_key(str(first), ROUND), b"{}")
    if not is_free:
        with pytest.raises(ReservedNameError, match=f"which review {first} will make that is {states[-1].name}"):
            reserve(archive, second, monkeypatch)
        reserve(archive, first, monkeypatch)
        return
    reserve(archive, second, monkeypatch)
    with pytest.raises(ReservedNameError, match=f"which review {second} will make that is Running"):
        reserve(archive, first, monkeypatch)


def test_the_name_of_a_run_that_was_deleted_is_free(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, gone = f"{uuid4().hex}.zip", uuid4()
    RUNS.put(round_key(str(gone), ROUND), b"{}")
    for run in (gone, make_run(client, deployment, Running())):
        reserve(archive, run, monkeypatch)
