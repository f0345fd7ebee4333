"""A worker of the work pool: `python -m infra.worker`, which drains when it is told to end.

`prefect worker start` ends at once and leaves its runs behind: each goes on without anybody to see it end, and on a
machine that goes away too, 90 s pass until its silence is noticed. This one takes no more runs, gives those that it has
`--drain` seconds, and ends the others in words that Prefect understands, so that the next worker carries them on.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.loggers import flow_run_logger
from prefect.runner._control_channel import ControlChannel
from prefect.runner._flow_run_executor import FlowRunExecutorContext, ProcessStarter
from prefect.runner._process_manager import ProcessHandle
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult
from pydantic import PrivateAttr

from infra import due_runs, engine
from infra.command_errors import StackError
from infra.flow_processes import ForkStarter, Imports
from infra.gpus import hold
from infra.registration import POOL
from infra.stack_settings import ROOT, StackSettings
from tasks.errors import expected_found_fix

LOGGER = logging.getLogger("prefect.worker.studio")
DRAIN_S = 5.0  # with the time that ends need and the 15 s of `retry-crashed-runs` a run is given back within 30 s
ENDING_S = 8.0  # what a run has to write that it was ended
_LOOK_S = 0.1
MOST_SKEW = timedelta(minutes=5)  # an object store refuses requests from 15 minutes on
PULL_STEPS: list[dict[str, Any]] = [{"deployments.checkout.enter": {}}]  # of prefect.yaml
_ENTRYPOINT = re.compile(r"flows/(\w+)\.py:(\w+)")


class CheckoutConfiguration(ProcessJobConfiguration):
    """What a run is started with, and which flow of this checkout it is of, if of one."""

    _flow: str | None = PrivateAttr(default=None)

    @property
    def flow(self) -> str | None:
        """Module and function of the flow; None if it lies elsewhere, or its runs have a command of their own."""
        return None if self._command_configured else self._flow

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        *given: Any,  # noqa: ANN401 - what Prefect's own takes
        **named: Any,  # noqa: ANN401
    ) -> None:
        """Learn where the flow lies."""
        super().prepare_for_flow_run(flow_run, deployment, *given, **named)
        if deployment is not None and deployment.pull_steps == PULL_STEPS:
            found = _ENTRYPOINT.fullmatch(deployment.entrypoint or "")
            self._flow = found and f"flows.{found[1]}.{found[2]}"


class _NoHooks:
    """Flows of this checkout have none, which Prefect starts a process to find out."""

    async def run_cancellation_hooks(self, *_: object) -> None:
        pass

    async def run_crashed_hooks(self, *_: object) -> None:
        pass


class _Noting(TaskStatus[Any]):
    """Notes the process of a run, or its number, and tells the number to what wants that."""

    def __init__(self, told: TaskStatus[int] | None) -> None:
        self._told = told or TASK_STATUS_IGNORED
        self.number: int | None = None

    def started(self, value: ProcessHandle | int | None = None) -> None:
        self.number = value.pid if isinstance(value, ProcessHandle) else value
        if self.number is None:
            raise RuntimeError("expected a process of the flow run, found none")
        self._told.started(self.number)


def clock_error(server: datetime, before: datetime, after: datetime) -> str:
    """Return what is to do about a clock by which the server answered at another time than between these two."""
    if before - MOST_SKEW <= server <= after + MOST_SKEW:
        return ""
    found = f"{after:%Y-%m-%d %H:%M:%S} where it is {server:%Y-%m-%d %H:%M:%S} there (UTC)"
    fix = "Set both clocks by NTP (`timedatectl`). Until then this worker takes no runs, which would fail here."
    return expected_found_fix("the clock of this machine to be as that of Prefect's server", found, fix)


class DrainingWorker(ProcessWorker):
    """A process worker that can be told to take no more runs, and starts flows of this checkout by itself.

    It takes none either while the clock of its machine is wrong: each would fail, one after the other.
    """

    job_configuration = CheckoutConfiguration
    is_draining = False
    _clock_error = ""

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 - what Prefect's own takes
        """Remember the files of the checkout as they are now."""
        super().__init__(*given, **named)
        self.imports = Imports()
        self._looking = asyncio.Lock()
        self._begun: list[_Noting] = []

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Leave the name `process` to Prefect's own worker."""
        return "draining-process"

    async def get_and_submit_flow_runs(self) -> list[Any]:
        """Take what waits, unless it is draining or its clock is wrong."""
        async with self._looking:  # or what an event has it look for is given to it twice
            return [] if self.is_draining or self._clock_error else await super().get_and_submit_flow_runs()

    async def look(self) -> bool:
        """Take what waits now; False if there was nothing, though it may take some."""
        try:
            return not self.limiter.available_tokens or bool(await self.get_and_submit_flow_runs())
        except (httpx.HTTPError, RuntimeError) as error:  # its next regular look says what is wrong, or it begins only
            LOGGER.debug("could not look for runs: %r", error)
            return True

    def is_worker_still_polling(self, query_interval_seconds: float) -> bool:
        """Return whether its health check passes."""
        return not self._clock_error and super().is_worker_still_polling(query_interval_seconds)

    async def sync_with_backend(self) -> None:
        """Tell the server that it is there, and compare their clocks."""
        await super().sync_with_backend()
        error = await self._compare_clocks()
        if error:
            LOGGER.error("%s", error)
        elif self._clock_error:
            LOGGER.info("the clock of this machine is right again")
        self._clock_error = error

    async def _compare_clocks(self) -> str:
        before = datetime.now(UTC)
        try:
            answer = await self.client.hello()
        except PrefectHTTPStatusError as error:
            answer = error.response
        try:
            server = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
        except (KeyError, ValueError):  # it does not say
            return ""
        return clock_error(server, before, datetime.now(UTC))

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[Any]) -> list[Any]:
        """Leave a run alone whose process is still here, such as one that seemed dead while the server was away.

        Prefect's worker ends with an error there, and nobody sees its other runs end. That process ends by itself once
        it sees that the run was given away.
        """
        here = set(self.limiter.statistics().borrowers)
        return await super()._submit_scheduled_flow_runs(
            [entry for entry in flow_run_response if entry.flow_run.id not in here]
        )

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Carry out a run in a process of its own, of `infra.engine` if its flow is one of this checkout.

        Prefect has a process before it that goes where the flow lies, and imports itself there, too: 1.3 s.

        Raises:
            RuntimeError: The process did not start.
        """
        flow_run_logger(flow_run).info("carried out by worker %s", self.name)
        flow = configuration.flow if isinstance(configuration, CheckoutConfiguration) else None
        noting = _Noting(task_status)
        self._begun.append(noting)
        try:
            if flow is None:
                return await super().run(flow_run, configuration, noting)
            async with FlowRunExecutorContext() as context:
                starter = self.starter(flow, configuration, context.control_channel)
                executor = context.create_executor(flow_run, starter, propose_submitting=False, hook_runner=_NoHooks())
                done = await executor.submit(task_status=noting)
        finally:
            self._begun.remove(noting)
        if done is None or done.status_code is None:
            raise RuntimeError("expected a process of the flow run, found that it did not start")
        return ProcessWorkerResult(status_code=done.status_code, identifier=str(done.handle.pid))

    def starter(self, flow: str, configuration: ProcessJobConfiguration, control: ControlChannel) -> ProcessStarter:
        """Return what starts the process of a run: a fork, if what it would have imported is right for this run."""
        by_itself = EngineCommandStarter(
            entrypoint=flow,
            command=shlex.join([sys.executable, "-m", "infra.engine"]),
            cwd=ROOT,
            env=configuration.env,
            stream_output=configuration.stream_output,
            control_channel=control,
            isolate_process_group=True,
            env_overrides_settings=True,
        )
        self.imports.renew_if_old()
        if _variables_of_run(configuration) or not self.imports.are_possible():
            return by_itself
        return ForkStarter(flow, configuration.env, control, self.imports, by_itself)

    @property
    def queues(self) -> list[str]:
        """From which it takes runs; of all, if none is named."""
        return sorted(self._work_queues)

    @property
    def groups(self) -> set[int]:
        """The process groups of its runs."""
        return {noting.number for noting in self._begun if noting.number is not None}

    @property
    def runs(self) -> int:
        """How many runs it has: those that begin, and those that have processes."""
        try:
            return int(self.limiter.borrowed_tokens)
        except RuntimeError:  # it has not begun
            return 0


def _variables_of_run(configuration: ProcessJobConfiguration) -> set[str]:
    """Which variables a run has from its job variables; some are read while a library is imported."""
    of_worker = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
    return {
        name
        for name, value in configuration.env.items()
        if value != of_worker.get(name) and not name.startswith("PREFECT__")  # those say which run it is
    }


async def work(
    worker: DrainingWorker, drain_s: float, *, with_healthcheck: bool = False, is_prompt: bool = False
) -> None:
    """Work until SIGTERM or SIGINT, then drain; a second signal ends the runs at once."""
    told = asyncio.Semaphore(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.release)
    working = asyncio.create_task(worker.start(with_healthcheck=with_healthcheck, printer=LOGGER.info))
    waiting = asyncio.create_task(told.acquire())
    following = asyncio.create_task(due_runs.follow(worker.queues, worker.look)) if is_prompt else None
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        again = asyncio.create_task(told.acquire())
        await _drain(worker, drain_s, again)
        again.cancel()
        working.cancel()
    waiting.cancel()
    if following:
        following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _drain(worker: DrainingWorker, drain_s: float, again: "asyncio.Task[bool]") -> None:
    worker.is_draining = True
    LOGGER.info("takes no more runs; %d go on, for at most %g s", worker.runs, drain_s)
    await _wait(drain_s, lambda: not worker.runs or again.done())
    if not worker.runs:
        LOGGER.info("all its runs have ended")
        return
    LOGGER.info("hands %d runs over: each ends here as Crashed, and the next worker carries it on", worker.runs)
    for number in (signal.SIGTERM, signal.SIGKILL):
        told: set[int] = set()

        def ended(number: int = number, told: set[int] = told) -> bool:
            begun = worker.groups - told  # one may have begun only now
            _signal(begun, number)
            told |= begun
            return not worker.runs

        await _wait(ENDING_S, ended)


async def _wait(seconds: float, is_over: Callable[[], bool]) -> None:
    for _ in range(round(seconds / _LOOK_S)):
        if is_over():
            return
        await asyncio.sleep(_LOOK_S)


def _signal(groups: set[int], number: int) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def main() -> None:
    """Work until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", help="of the worker, as Prefect shows it")
    parser.add_argument("--queue", action="append", help="from which it takes runs; all, if none is named")
    parser.add_argument("--limit", type=int, required=True, help="of runs at one time")
    parser.add_argument("--drain", type=float, default=DRAIN_S, help="seconds that runs have to end by themselves")
    parser.add_argument("--gpus", help="that its runs see, by number: 0, or 0+1 for both; no other worker has them")
    parser.add_argument("--nice", type=int, default=0, help="how far its runs stand back behind others, 0 to 19")
    parser.add_argument("--health", action="store_true", help="say at PREFECT_WORKER_WEBSERVER_PORT whether it is well")
    parser.add_argument("--prompt", action="store_true", help="take runs when the server says that they wait")
    given = parser.parse_args()
    os.nice(given.nice)
    gpus = given.gpus.split("+") if given.gpus else []
    try:
        held = hold(gpus, StackSettings.load().state_dir / "gpus")
    except StackError as error:
        sys.exit(str(error))
    if gpus:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the driver's numbers; CUDA's own begin with the fastest
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    worker = DrainingWorker(name=given.name, work_pool_name=POOL, work_queues=given.queue, limit=given.limit)
    if given.limit > 1:  # a worker of trainings would have them in memory for hours before it takes its first
        worker.imports.begin()
    refused: ExceptionGroup[PrefectHTTPStatusError] | None = None
    with held:
        try:
            asyncio.run(work(worker, given.drain, with_healthcheck=given.health, is_prompt=given.prompt))
        except* PrefectHTTPStatusError as errors:
            refused, others = errors.split(_is_shut_out)
            if others:
                raise
    if refused:
        sys.exit(
            expected_found_fix(
                "Prefect's server to let this worker in",
                "that it refuses its account and token",
                "Ask an admin whether the account is disabled or the token has ended, and for another file of "
                "`studio worker-env`. Its runs are carried on by other workers.",
            )
        )


def _is_shut_out(error: Exception) -> bool:
    return isinstance(error, PrefectHTTPStatusError) and error.response.status_code in (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
    )


if __name__ == "__main__":
    sys.modules["__main__"] = engine  # each fork imports the main module, and so does what a run spawns
    main()
