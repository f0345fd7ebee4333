"""`make chaos`: a worker is cut off from one service for five minutes, and all others go on.

A service that is away for all is in test_outages.py. A worker has no connection to PostgreSQL.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.chaos.steps import ENGINE, Workers, completed, processes, read, until, worker_of
from tests.chaos.test_outages import (
    CUT_S,
    EPOCHS,
    SAYS,
    assert_completes,
    assert_predicted_once,
    assert_trained_once,
    begin_inference,
    begin_training,
)
from tests.proxy import Proxy

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
TRAINING, INFERENCE = "training", "inference"  # queues


class Cut:
    """The way of some workers to a service, which is cut until `end`."""

    def __init__(self, service: str, ways: list[Proxy], runs: dict[str, UUID]) -> None:
        self.service, self.runs, self._lost = service, runs, contextlib.ExitStack()
        for way in ways:
            self._lost.enter_context(way.lost())
        self._began = time.monotonic()
        print(f"{', '.join(runs)}: cut off from {service}", flush=True)

    @property
    def seconds(self) -> float:
        """How long it is cut."""
        return time.monotonic() - self._began

    def end(self) -> None:
        """Wait until the time is over, and let all through again."""
        time.sleep(max(0.0, CUT_S - self.seconds))
        self._lost.close()


CutOff = Callable[..., Cut]


@pytest.fixture
def cut_off(stack: StackSettings, archive: str, model: str, media: str, workers: Workers) -> Iterator[CutOff]:
    """What starts a worker for each of these queues that reaches a service by a way of its own, begins a run on each,
    and cuts that way.
    """
    ports = {
        "prefect": [stack.prefect_port],
        "mlflow": [stack.mlflow_port],
        "object-store": [stack.s3_port],
        "triton": [stack.triton_grpc_port, stack.triton_http_port],
    }
    begin = {TRAINING: lambda: begin_training(archive), INFERENCE: lambda: begin_inference(model, media)}
    every: list[Proxy] = []

    def cut(service: str, *queues: str) -> Cut:
        ways = [Proxy(port) for port in ports[service]]
        every.extend(ways)
        hosts = [f"127.0.0.1:{way.port}" for way in ways]
        environment = {
            "prefect": {"PREFECT_API_URL": f"http://{hosts[0]}/api"},
            "mlflow": {"MLFLOW_TRACKING_URI": f"http://{hosts[0]}"},
            "object-store": {"AWS_ENDPOINT_URL": f"http://{hosts[0]}"},
            "triton": {"TRITON_GRPC_URL": hosts[0], "TRITON_HTTP_URL": hosts[-1]},
        }[service]
        runs = {}
        for queue in queues:
            worker = workers.start(queues=[queue], limit=1, environment=environment)
            runs[queue] = begin[queue]()
            assert worker_of(runs[queue]).pid == worker.pid
        return Cut(service, ways, runs)

    yield cut
    for way in every:
        way.close()


def test_a_run_whose_worker_is_cut_off_from_prefect_is_done_by_another(cut_off: CutOff, workers: Workers) -> None:
    """It is told lost after 90 s. Its first process, which lives, changes nothing more and ends when it hears of it."""
    cut = cut_off("prefect", TRAINING, INFERENCE)
    runs = cut.runs.values()
    assert all(processes(run, ENGINE) for run in runs)
    for queue in cut.runs:
        workers.start(queues=[queue], limit=1)
    for run in runs:
        until(lambda run=run: completed(run), "another worker has done it")  # type: ignore[misc]
    alive = sum(len(processes(run, ENGINE)) for run in runs)
    print(f"\nboth | done by other workers {cut.seconds:.0f} s after the cut, {alive} first processes live", flush=True)
    assert cut.seconds < CUT_S
    cut.end()
    until(lambda: not any(processes(run) for run in runs), "the first processes have ended")
    time.sleep(10)  # for what their workers, if they live, say of them
    for run in runs:
        assert completed(run)
        assert read(run).run_count == 2
    assert_predicted_once(cut.runs[INFERENCE])
    assert assert_trained_once(cut.runs[TRAINING]) == EPOCHS


def test_runs_outlive_that_their_workers_are_cut_off_from_a_service(
    cut_off: CutOff, archive: str, workers: Workers
) -> None:
    """They end as if it were away for all, while a run of another worker completes.

    Those that end first begin last, so that no worker is free while a run begins that is another's.
    """
    cuts = [
        cut_off("mlflow", TRAINING),
        cut_off("object-store", TRAINING),
        cut_off("triton", INFERENCE),
        cut_off("object-store", INFERENCE),
    ]
    workers.start(queues=["interactive"], limit=1)
    check = deployed_flows.start("validate-dataset", {"archive": archive, "policy": {"max_class_ratio": 999}})
    until(lambda: completed(check), "a worker that is not cut off goes on")
    assert cuts[-1].seconds < CUT_S
    for cut in cuts:
        cut.end()
    for cut in cuts:
        for queue, run in cut.runs.items():
            says = SAYS.get(cut.service, "") if queue == INFERENCE else ""
            print(f"\n{queue} | cut off from {cut.service} | {assert_completes(run, says)}", flush=True)
            if queue == INFERENCE:
                assert_predicted_once(run)
            else:
                assert assert_trained_once(run) == EPOCHS
