"""Which flow runs workers leave when they are stopped, and that none of them is lost."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.registration import POOL
from infra.rotation import restarts, state
from infra.rotation.restarts import give_back, remember_runs
from infra.rotation.state import Rotation
from infra.stack_settings import StackSettings
from tests.clients import prefect_api

QUEUE = "of-nobody"


class Runs:
    """Flow runs in a queue that no worker takes from."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api
        found = api.get("/deployments/name/validate-dataset/gpu").raise_for_status().json()
        self._deployment, self._flow = found["id"], found["flow_id"]

    def make(self, kind: str, *, of_pool: bool = True) -> str:
        """A run in a state of that type; returns its id."""
        asked: dict[str, Any] = {"state": {"type": "PENDING"}, "parameters": {"archive": "x.zip"}}
        if of_pool:
            path = f"/deployments/{self._deployment}/create_flow_run"
            asked["work_queue_name"] = QUEUE
        else:
            path = "/flow_runs/"
            asked["flow_id"] = self._flow
        run = str(self._api.post(path, json=asked).raise_for_status().json()["id"])
        self.set(run, kind)
        return run

    def set(self, run: str, kind: str) -> None:
        body = {"state": {"type": kind, "name": kind.title()}, "force": True}
        self._api.post(f"/flow_runs/{run}/set_state", json=body).raise_for_status()

    def state(self, run: str) -> str:
        return str(self._api.get(f"/flow_runs/{run}").raise_for_status().json()["state_name"])


@pytest.fixture
def runs(stack: StackSettings) -> Iterator[Runs]:
    with prefect_api(stack) as api:
        api.post(f"/work_pools/{POOL}/queues", json={"name": QUEUE}).raise_for_status()
        made = Runs(api)
        try:
            yield made
        finally:
            state.remove(stack.state_dir)
            wanted = {"work_pool_queues": {"name": {"any_": [QUEUE]}}}
            for run in api.post("/flow_runs/filter", json=wanted).raise_for_status().json():
                api.delete(f"/flow_runs/{run['id']}")
            api.delete(f"/work_pools/{POOL}/queues/{QUEUE}").raise_for_status()


def test_what_a_worker_took_before_it_was_stopped_goes_on(
    stack: StackSettings, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restarts, "_AT_ONE_TIME", 2)
    crashed_before, elsewhere = runs.make("CRASHED"), runs.make("PENDING", of_pool=False)
    known = [runs.make("PENDING") for _ in range(5)]
    first = remember_runs(stack, Rotation(former={}, new={}))
    assert {*known} <= {*map(str, first.handed_over)}
    assert state.read(stack.state_dir) == first
    taken_later, works = runs.make("CRASHED"), runs.make("RUNNING")
    runs.set(known[0], "CRASHED")
    runs.set(known[1], "COMPLETED")
    second = remember_runs(stack, state.read(stack.state_dir) or first)
    found = {*map(str, second.handed_over)}
    assert {*known, taken_later, works} <= found
    assert not {crashed_before, elsewhere} & found
    ours = {*known, taken_later, works}
    give_back(stack, second.model_copy(update={"handed_over": [run for run in second.handed_over if str(run) in ours]}))
    assert [runs.state(run) for run in (known[0], *known[2:], taken_later)] == ["AwaitingRetry"] * 5
    assert [runs.state(run) for run in (known[1], works)] == ["Completed", "Running"]
    assert [runs.state(run) for run in (crashed_before, elsewhere)] == ["Crashed", "Pending"]
