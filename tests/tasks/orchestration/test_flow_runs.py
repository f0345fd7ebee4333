"""What a process does when the state of its flow run was changed by others."""

from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import Pause
from prefect.states import Completed, Running

from tasks.errors import Cancelled, Superseded
from tasks.orchestration import flow_runs


@pytest.fixture
def run(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[UUID]:
    """A run in its first attempt, which this process is to be taken for."""
    deployment = client.create_deployment(client.create_flow_from_name("owned"), str(uuid4()))
    run = client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(run, Running(), force=True)
    monkeypatch.setattr(flow_runs, "flow_run_id", lambda: str(run))
    monkeypatch.setattr(flow_runs, "runtime", SimpleNamespace(flow_run=SimpleNamespace(run_count=1)))
    yield run
    client.delete_deployment(deployment)


@pytest.mark.parametrize(
    ("kind", "name", "ends"),
    [
        (StateType.CANCELLING, "Cancelling", None),  # its worker ends it
        (StateType.CRASHED, "Crashed", None),  # it only seemed dead
        (StateType.PAUSED, "Suspended", None),  # it stops where it can go on
        (StateType.CANCELLED, "Cancelled", Cancelled),
        (StateType.SCHEDULED, "AwaitingRetry", Superseded),
        (StateType.PENDING, "Pending", Superseded),
    ],
)
def test_a_process_ends_when_its_run_is_anothers_or_nobodys(
    client: SyncPrefectClient, run: UUID, kind: StateType, name: str, ends: type[BaseException] | None
) -> None:
    owner = flow_runs.OwnershipGuard()
    owner()
    client.set_flow_run_state(run, State(type=kind, name=name), force=True)
    if ends:
        with pytest.raises(ends):
            owner()
    else:
        owner()


def test_a_process_leaves_a_suspended_run_where_it_can_go_on(client: SyncPrefectClient, run: UUID) -> None:
    owner = flow_runs.OwnershipGuard()
    owner.stop_if_suspended()
    client.set_flow_run_state(run, State(type=StateType.PAUSED, name="Suspended"), force=True)
    assert flow_runs.flow_run_is_active(str(run)) is False
    with pytest.raises(Pause):
        owner.stop_if_suspended()


def test_what_is_over_or_unknown_is_not_cancelled(
    client: SyncPrefectClient, run: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ends between two looks, one was deleted in the UI: a roll-back waits for neither with a traceback."""
    here = SimpleNamespace(flow_run=SimpleNamespace(run_count=1, flow_name="another"))
    monkeypatch.setattr(flow_runs, "runtime", here)
    client.set_flow_run_state(run, Completed(), force=True)
    assert not flow_runs.cancel_flow_run(str(run))
    assert not flow_runs.cancel_flow_run(str(uuid4()))
    assert not flow_runs.cancel_flow_run("no id")
    state = client.read_flow_run(run).state
    assert state is not None
    assert state.is_completed()
