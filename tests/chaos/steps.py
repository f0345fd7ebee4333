"""Flow runs on the stack's worker, as people and the kernel treat them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import LogSort

from infra import supervisord
from infra.services import worker_command, worker_process_environment
from infra.stack_settings import ROOT, StackSettings
from tasks.orchestration.prefect_client import patient_client
from tests.supervised import process_of
from tests.waiting import eventually

DEADLINE_S = 300
FLOW = "flow's process"
IMAGES = 1000
MEDIA = "chaos/"  # the prefix of these images, in bucket media
ENGINE = "infra.engine"  # in the command of that process


def until(what: Callable[[], object], why: str) -> None:
    eventually(what, why, DEADLINE_S, every_s=0.2)


def read(run: UUID) -> FlowRun:
    with patient_client() as client:
        return client.read_flow_run(run)


def set_state(run: UUID, state: State) -> None:
    """What the UI and `prefect flow-run cancel | retry` do."""
    with patient_client() as client:
        client.set_flow_run_state(run, state, force=True)


def completed(run: UUID) -> bool:
    state = read(run).state
    assert state is not None
    assert not state.is_failed(), state
    return state.is_completed()


def log(run: UUID) -> list[str]:
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    with patient_client() as client:
        return [line.message for line in client.read_logs(chosen, limit=200, sort=LogSort.TIMESTAMP_ASC)]


def processes(run: UUID, part: str = "") -> list[psutil.Process]:
    """Processes of this flow run whose command has `part` in it; that of the flow itself has the run's id, too."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            is_of_run = str(run) in command or process.environ().get("PREFECT__FLOW_RUN_ID") == str(run)
            if is_of_run and part in command:
                found.append(process)
        except psutil.Error:
            continue
    return found


def worker_of(run: UUID) -> psutil.Process:
    """The worker that started the process of a run."""
    ancestors = {each for process in processes(run, ENGINE) for each in process.parents()}
    (worker,) = [each for each in ancestors if "infra.worker" in each.cmdline()]
    return worker


@contextlib.contextmanager
def without_workers(stack: StackSettings) -> Iterator[None]:
    """Stop the workers of the stack in the block, for others in their place."""
    names = [name for name in supervisord.states(stack) if supervisord.WORKER in name]
    with supervisord.connect(stack) as supervisor:
        for name in names:
            supervisor.stopProcess(name)
    yield
    with supervisord.connect(stack) as supervisor:
        for name in names:
            supervisor.startProcess(name)


class Workers:
    """Workers of the stack's pool, started by hand as `studio worker` does."""

    def __init__(self, stack: StackSettings) -> None:
        self._stack, self.started = stack, list[psutil.Popen]()

    def start(
        self, *options: str, environment: Mapping[str, str] | None = None, log: Path | None = None, **chosen: object
    ) -> psutil.Popen:
        """Start one with what `worker_command` takes, this beside its environment, and its output in a file."""
        command = [*worker_command(self._stack, **chosen), *options]  # type: ignore[arg-type]
        ours = {supervisord.STACK_ENV_VAR: str(self._stack.state_dir)}
        environment = worker_process_environment(self._stack) | ours | dict(environment or {})
        with log.open("wb") if log else contextlib.nullcontext() as output:
            self.started.append(psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output))
        return self.started[-1]

    def kill(self, worker: psutil.Popen) -> None:
        """End one and all that it has started, as if its machine were gone."""
        for process in [*worker.children(recursive=True), worker]:
            process.kill()
        worker.wait()


def kill(stack: StackSettings, victim: str, run: UUID) -> None:
    """End a process as the kernel would; what supervises it starts it again. Fails if there is none."""
    if victim == FLOW:
        (process,) = processes(run, ENGINE)
        process.kill()
    elif victim == "worker":
        worker_of(run).kill()
    else:
        kill_service(stack, victim)


def kill_service(stack: StackSettings, name: str) -> None:
    """End a service as the kernel would. Fails if it does not run."""
    process = process_of(stack, name)
    children = (
        process.children(recursive=True) if supervisord.WORKER not in name else []
    )  # its runs are processes of their own
    for each in [process, *children]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
