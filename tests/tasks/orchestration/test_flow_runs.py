"""What a process does when the state of its flow run was changed by others."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import Pause
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running, Scheduled

from infra.stack_settings import StackSettings
from tasks.errors import Cancelled, Superseded
from tasks.orchestration import flow_runs
from tests.proxy import Proxy


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


@pytest.mark.parametrize("is_given_away", [True, False])
def test_a_process_that_is_cut_off_waits_to_be_told_whose_its_run_is(
    stack: StackSettings,
    client: SyncPrefectClient,
    run: UUID,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_given_away: bool,
) -> None:
    """While it is cut off its run may be given to another; it goes on with what is its own alone."""
    monkeypatch.setattr(flow_runs, "CHECK_INTERVAL_S", 0.1)
    log = logging.Logger("run")  # noqa: LOG001 - of this test alone
    log.addHandler(caplog.handler)
    monkeypatch.setattr(flow_runs, "get_run_logger", lambda: log)
    way = Proxy(stack.prefect_port)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{way.port}/api"}):
        owner = flow_runs.OwnershipGuard()
        owner.require()
        assert owner.is_certain()
        monkeypatch.setattr(flow_runs, "CERTAIN_S", 1e-9)
        way.close()
        owner()
        assert not owner.is_certain()
        if is_given_away:
            client.set_flow_run_state(run, Scheduled(), force=True)
        threading.Timer(4, way.open).start()  # the client tries for 1.5 s to connect
        with pytest.raises(Superseded) if is_given_away else contextlib.nullcontext():
            owner.require()
    way.close()
    assert caplog.text.count("waits for an answer") == 1


def test_a_process_goes_on_if_its_run_is_deleted(client: SyncPrefectClient, run: UUID) -> None:
    owner = flow_runs.OwnershipGuard()
    client.delete_flow_run(run)
    owner()
    owner.require()
    assert owner.is_certain()


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
