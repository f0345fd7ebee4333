"""`make chaos`: the clock of a worker's machine is an hour ahead, by libfaketime.

Only the worker and its runs have that clock; server, store and database keep the right one. The store then refuses
every request, as any S3 does from 15 minutes on. A clock that is behind is in tests/infra/test_automations.py: such a
worker takes runs only when it gets there. libfaketime 0.9.10 cannot have the clock of a process jump that sleeps.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.services import worker_command, worker_process_environment
from infra.stack_settings import ROOT, StackSettings
from infra.supervisord import STACK_ENV_VAR
from tasks.orchestration import deployed_flows
from tests.chaos.steps import log, read, without_workers
from tests.chaos.test_outages import end_of

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.fixture
def fast_worker(stack: StackSettings) -> Iterator[psutil.Popen]:
    """A worker for checks in the place of the stack's, whose clock is an hour ahead."""
    if LIBRARY is None:
        pytest.skip("needs libfaketime: apt-get install libfaketime")
    ahead = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": "+1h", STACK_ENV_VAR: str(stack.state_dir)}
    command = worker_command(stack, queues=["interactive"])
    with without_workers(stack):
        worker = psutil.Popen(command, cwd=ROOT, env=worker_process_environment(stack) | ahead)
        yield worker
        for process in [*worker.children(recursive=True), worker]:
            process.kill()
        worker.wait()


@pytest.mark.usefixtures("fast_worker")
def test_a_run_on_a_machine_with_a_wrong_clock_says_to_set_it(archive: str) -> None:
    run = deployed_flows.start("validate-dataset", {"archive": archive})
    state = end_of(run)
    print(f"\nvalidate | clock an hour ahead | {state.name}: {state.message}", flush=True)
    assert state.is_failed(), log(run)
    assert "Set the clock of this machine by NTP" in (state.message or "")
    assert read(run).run_count == 1
