"""Lists of flow runs, with the real server."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, LogCreate
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelled, Completed, Failed, Running

from tasks.orchestration import child_runs, prefect_client, run_list
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.run_list import ListedRun, RunChoice
from tests.prefect_runs import make_run


def ids(runs: list[ListedRun]) -> list[UUID]:
    return [run.id for run in runs]


def test_what_goes_on_and_what_has_ended_are_two_lists(client: SyncPrefectClient, deployment: UUID, flow: str) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    waits, runs = make_run(client, deployment), make_run(client, deployment, Running())
    make_run(client, deployment, due=tomorrow)  # a schedule makes runs long before they are due
    failed = make_run(client, deployment, Running(), Failed(message="why"), model_name="x")
    done = make_run(client, deployment, Running(), Completed())
    cancelled = make_run(client, deployment, Cancelled())
    choice = RunChoice(flows=[flow])
    assert ids(run_list.list_unfinished(choice)) == [runs, waits]
    ended = run_list.list_ended(choice)
    assert ids(ended) == [cancelled, done, failed]
    assert (ended[2].flow, ended[2].parameters, ended[2].state.message) == (flow, {"model_name": "x"}, "why")
    assert ended[0].ended is not None
    only = RunChoice(flows=[flow], types=[StateType.RUNNING, StateType.FAILED])
    assert (ids(run_list.list_unfinished(only)), ids(run_list.list_ended(only))) == ([runs], [failed])
    assert run_list.list_unfinished(RunChoice(flows=[flow], types=[StateType.FAILED])) == []
    quiet = RunChoice(flows=[flow], hidden=["Cancelled", "Running"])
    assert (ids(run_list.list_unfinished(quiet)), ids(run_list.list_ended(quiet))) == ([waits], [done, failed])


def test_pages_of_ended_runs_have_each_once_whatever_ends_meanwhile(
    client: SyncPrefectClient, deployment: UUID, flow: str
) -> None:
    choice = RunChoice(flows=[flow])
    before = [make_run(client, deployment, Running(), Completed()) for _ in range(5)]
    page = run_list.list_ended(choice, limit=2)
    first = page[-1].place
    late = make_run(client, deployment, Running(), Completed())
    seen = ids(page)
    while page := run_list.list_ended(choice, page[-1].place, limit=2):
        seen += ids(page)
    assert seen == before[::-1]
    assert first is not None
    assert ids(run_list.list_ended_since(choice, first)) == [late, *seen[:2]]


@pytest.mark.parametrize("purpose", [child_runs.PIPELINE, child_runs.SHARES])
def test_a_run_knows_who_has_started_it(
    client: SyncPrefectClient, deployment: UUID, flow: str, purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_client, "RUNS_PER_REQUEST", 2)
    monkeypatch.setattr(run_list, "MOST", 2)
    parent = make_run(client, deployment, Running())
    children = [
        make_run(client, deployment, Running(), Completed(), tag=child_runs.child_tag(purpose, parent)) for _ in "abc"
    ]
    make_run(client, deployment, Running(), tag=child_runs.child_tag(purpose, uuid4()))
    choice = RunChoice(flows=[flow])
    ended = run_list.list_ended(choice)
    assert [run.parent for run in ended] == [parent] * 3
    assert ids(run_list.read_relatives(ended)) == [parent]
    parents = [run for run in run_list.list_unfinished(choice) if run.id == parent]
    assert ids(run_list.read_relatives(parents)) == children[::-1]


def test_a_tag_of_somebody_else_names_no_parent() -> None:
    assert child_runs.started_by(["pipeline:mine", "shares:", f"x:{uuid4()}", "pipeline"]) is None


def test_progress_and_the_newest_line_of_many_runs_come_at_once(client: SyncPrefectClient, deployment: UUID) -> None:
    runs = [make_run(client, deployment, Running()) for _ in range(3)]
    now = datetime.now(UTC)
    for number, run in enumerate(runs[:2]):
        for share in (0, 10 * (number + 1)):
            bar = ArtifactCreate(type="progress", data=share, description=f"{share} images", flow_run_id=run)
            client.create_artifact(bar)
        lines = [
            LogCreate(
                name="x", level=20, message=f"line {age}", timestamp=now - timedelta(seconds=age), flow_run_id=run
            )
            for age in (1, 2)
        ]
        client.create_logs(lines)
    progress = run_list.read_progress(runs)
    assert [(progress[run].share, progress[run].words) for run in runs[:2]] == [(0.1, "10 images"), (0.2, "20 images")]
    assert set(progress) == set(runs[:2])
    assert {run: line.text for run, line in run_list.read_newest_lines(runs).items()} == dict.fromkeys(
        runs[:2], "line 1"
    )
    assert (run_list.read_progress([]), run_list.read_newest_lines([])) == ({}, {})


def test_of_suspended_runs_that_wait_for_one_another_the_last_one_says_what_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of runs that are in no list; one that goes on or was deleted is not waited for any longer."""
    loop, review, inference, gone = uuid4(), uuid4(), uuid4(), uuid4()

    def state(run: UUID, awaited: UUID | None, kind: StateType = StateType.PAUSED) -> RunState:
        since = datetime.now(UTC)
        return RunState(
            id=run, name="x", type=kind, state="x", message="", since=since, began=None, awaited=awaited
        )  # fmt: skip

    others = {review: state(review, inference), inference: state(inference, None, StateType.RUNNING)}
    monkeypatch.setattr(run_list, "read_runs", lambda wanted: {run: others[run] for run in wanted if run in others})
    found = run_list.find_waiting([state(loop, review), state(gone, uuid4())])
    assert {run: waits.id for run, waits in found.items()} == {loop: review, gone: gone}
    others[review] = state(review, loop)  # somebody has made it so
    assert run_list.find_waiting([state(loop, review)])[loop].id == review
