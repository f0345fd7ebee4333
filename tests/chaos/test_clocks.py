"""`make chaos`: clocks that jump by an hour, of a worker and of the coordinator (Prefect's server and PostgreSQL).

The object store always keeps the right time. Programs are shown another one by clock.c, with which it can jump while
they run, as libfaketime cannot have it.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Scheduled

from infra import stack as local_stack
from infra import supervisord
from infra.services import services
from infra.stack_settings import StackSettings, write_private
from tasks.orchestration import deployed_flows
from tests.chaos.steps import Workers, completed, log, processes, read, set_state, until, worker_of
from tests.chaos.test_outages import assert_completes, assert_trained_once, begin_training, end_of

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
HOUR_S = 3600
EPOCHS, LONGER = 15, 60


class Clock:
    """The time of day of the programs that have its environment: `jump` by seconds, and `set` to the right one."""

    def __init__(self, folder: Path) -> None:
        library, self._file = folder / "clock.so", folder / "shift"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["/usr/bin/cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}
        self._file.write_bytes(bytes(8))
        for path in (folder, library, self._file):
            path.chmod(0o755)  # PostgreSQL is another user
        self._seconds = 0

    def jump(self, seconds: int) -> None:
        """Have it jump, from one moment to the next."""
        self._seconds += seconds
        with self._file.open("r+b") as file:
            file.write(self._seconds.to_bytes(8, "little", signed=True))

    def set(self) -> None:
        """Have it jump to the right time."""
        self.jump(-self._seconds)


@pytest.fixture
def clock() -> Iterator[Clock]:
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="clock-") as folder:
        yield Clock(Path(folder))


@pytest.fixture
def coordinator(stack: StackSettings, clock: Clock) -> Iterator[Clock]:
    """The clock of Prefect's server and of the database."""
    with begun_anew(stack, clock.environment):
        yield clock
        clock.set()


@contextlib.contextmanager
def begun_anew(stack: StackSettings, environment: dict[str, str]) -> Iterator[None]:
    """Start Prefect's server and the database anew with this environment, and again without it at the end."""
    names = ("postgres", "prefect")
    files = {name: stack.state_dir / "services" / f"{name}.json" for name in names}
    before = {name: file.read_text() for name, file in files.items()}

    def start_anew() -> None:
        with supervisord.connect(stack) as supervisor:
            for name in reversed(names):
                supervisor.stopProcess(name)
            for name in names:
                supervisor.startProcess(name)
        restarted = [each for each in services(stack) if each.name in {*names, "mlflow"}]
        local_stack.wait_until_healthy(restarted, stack, lambda _: None)

    for name, text in before.items():
        launch = json.loads(text)
        write_private(files[name], json.dumps(launch | {"environment": launch["environment"] | environment}))
    try:
        start_anew()
        yield
    finally:
        for name, text in before.items():
            write_private(files[name], text)
        start_anew()


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
def test_a_worker_with_a_wrong_clock_takes_no_runs_and_says_why(
    clock: Clock, workers: Workers, archive: str, tmp_path: Path, seconds: int
) -> None:
    """Nor does one whose clock was right at first. When it is right, it takes them."""
    output = tmp_path / "worker.log"
    wrong = workers.start(queues=["interactive"], environment=clock.environment, log=output)
    first = start_check(archive)
    until(lambda: completed(first), "its clock is right")
    clock.jump(seconds)
    until(lambda: "Set both clocks by NTP" in output.read_text(), "it says what to do")
    run = start_check(archive)
    time.sleep(10)
    assert not processes(run)
    right = workers.start(queues=["interactive"])
    until(lambda: processes(run), "another worker takes it")
    assert worker_of(run).pid == right.pid
    until(lambda: completed(run), "it is done")
    workers.kill(right)
    clock.set()
    until(lambda: "is right again" in output.read_text(), "it sees that its clock is")
    last = start_check(archive)
    until(lambda: completed(last), "it takes runs again")
    assert wrong.is_running()
    print(f"\nworker | its clock jumps by {seconds} s | takes no runs until it is right", flush=True)


def start_check(archive: str) -> UUID:
    policy = {"max_class_ratio": 1000 + uuid4().int % 10**6}  # no answer from the cache
    return deployed_flows.start("validate-dataset", {"archive": archive, "policy": policy})


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["on", "back"])
def test_a_training_under_a_clock_that_jumps_says_to_set_it_and_goes_on(
    clock: Clock, workers: Workers, archive: str, seconds: int
) -> None:
    workers.start(queues=["training"], environment=clock.environment)
    run = begin_training(archive, EPOCHS)
    clock.jump(seconds)
    state = end_of(run)
    print(f"\ntrain | the clock of its machine jumps by {seconds} s | {state.name}: {state.message}", flush=True)
    assert state.is_failed(), log(run)
    assert "Set the clock of this machine by NTP" in (state.message or "")
    clock.set()
    set_state(run, Scheduled())
    until(lambda: read(run).run_count == 2, "it is tried again")
    assert_completes(run)
    assert assert_trained_once(run) == EPOCHS


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S], ids=["on", "back"])
def test_a_training_ends_right_while_the_coordinators_clock_jumps(
    coordinator: Clock, archive: str, seconds: int
) -> None:
    """There and back again. A schedule makes a run for each of its times once."""
    deployment = schedule(timedelta(minutes=10))
    until(lambda: len(times(deployment)) >= 3, "the schedule has made runs")
    run = begin_training(archive, LONGER)
    coordinator.jump(seconds)
    time.sleep(60)
    coordinator.set()
    how = assert_completes(run)
    assert assert_trained_once(run) == LONGER
    assert read(run).run_count in ({2} if seconds > 0 else {1, 2})  # set right again, it jumps on after it went back
    made = times(deployment)
    assert len(made) == len({*made}), "each time once"
    print(f"\ntrain | the coordinator's clock jumps by {seconds} s, and back after 60 s | {how}", flush=True)


def schedule(every: timedelta) -> UUID:
    """A deployment with runs that nobody takes."""
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(f"scheduled-{uuid4().hex[:8]}")
        planned = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=every), active=True)
        return client.create_deployment(flow, "by-the-clock", schedules=[planned])


def times(deployment: UUID) -> list[object]:
    """When the runs of a deployment are due."""
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    with get_client(sync_client=True) as client:
        return [run.expected_start_time for run in client.read_flow_runs(deployment_filter=chosen, limit=200)]
