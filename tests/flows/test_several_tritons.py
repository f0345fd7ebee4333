"""Two real tritonservers on one repository: rollouts while one is killed or stopped, with clients that know both."""

import asyncio
import http.client
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger
from tritonclient.utils import InferenceServerException

from flows.repair_servers import repair_servers
from infra import services
from infra.demo_data import CLASSES, draw_image
from infra.front_page.server_watch import difference, read_all
from infra.ports import is_free
from infra.stack_settings import ROOT, StackSettings
from infra.temporary import shared_memory
from tasks.errors import StudioError
from tasks.inference.triton_client import TritonClient, VersionUnloadedError
from tasks.serving import kept_versions, model_control, model_repository, repair
from tasks.serving.repair import find_wrong_servers
from tasks.serving.servers import TritonServer, call_on_each, is_live, list_servers, live_servers, talking_to
from tasks.storage.leases import hold_lease
from tests.clients import Clients
from tests.flows.conftest import served_model
from tests.flows.registered import SIZE
from tests.flows.steps import UNCOMPARED, aside, champion, deploy, rollback, undeploy
from tests.supervised import process_of
from tests.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
LONGEST_S = 10.0  # that a client waits for one of the two before it asks the other, twice


class Second:
    """The second Triton, as `make up TRITONS=2` starts it; a test is its supervisor."""

    def __init__(self, stack: StackSettings, log: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STUDIO_TRITONS", "2")
            self._service = services.triton(StackSettings.load(), 2)
        self.server = TritonServer(
            self._service.environment["TRITON_GRPC_URL"], self._service.environment["TRITON_HTTP_URL"]
        )
        self.targets = ",".join(f"{each.grpc}/{each.http}" for each in (first_of(stack), self.server))
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers; its models are there then."""
        with self._log.open("ab") as log:
            self.process = psutil.Popen(
                self._service.command, cwd=ROOT, env=self._service.environment, stdout=log, stderr=log
            )
        eventually(self._is_well, f"the second Triton to start; its log is {self._log}", 120)

    def _is_well(self) -> bool:
        with suppress(httpx.HTTPError):
            self._service.check()
            return True
        return False

    def kill(self) -> None:
        """As the kernel ends a process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold it: it takes connections in the block, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        port = int(self.server.http.rpartition(":")[2])
        children = self.process.children(recursive=True)
        with suppress(psutil.NoSuchProcess):
            self.process.terminate()
        psutil.wait_procs([self.process, *children], 30)
        eventually(lambda: is_free(port), "the port of the second Triton to be free")
        for left in shared_memory(port):
            left.unlink()


def first_of(stack: StackSettings) -> TritonServer:
    return TritonServer(stack.environment["TRITON_GRPC_URL"], stack.environment["TRITON_HTTP_URL"])


@pytest.fixture(scope="module")
def second(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    found = Second(stack, tmp_path_factory.mktemp("triton") / "triton-2.log")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_TARGETS", found.targets)
            yield found
    finally:
        found.end()


@pytest.fixture
def model(second: Second, weights: Path, sample: Path, graph: Path) -> Iterator[str]:  # noqa: ARG001
    """A model of which both serve version 1, and of which version 2 is in the repository."""
    with served_model(weights, sample, graph) as name:
        model_repository.publish_version.fn(name, 2, graph)
        assert served(name) == [[1], [1]]
        with pytest.MonkeyPatch.context() as patch:
            # Fixture `served` loads a model that nobody has deployed, which a repair would unload.
            patch.setattr(repair, "list_models_to_repair", lambda: [name] if find_wrong_servers(name) else [])
            yield name
        kept_versions.unload_unused(name)
        call_on_each(list_servers(), lambda: model_control.unload.fn(name))


def served(name: str) -> list[list[int]]:
    """The versions on each server."""
    found = call_on_each(live_servers(), lambda: model_control.list_served_versions(name))
    return [[model.version for model in models] for models in found.values()]


class Answer(NamedTuple):
    kind: str
    seconds: float
    version: int
    fault: str = ""
    retried: str = ""


class BothClients(Clients):
    """Clients that know both addresses and ask the other one if one does not answer, two of each kind.

    Some ask Triton and name no version, some ask `predict`, some are runs of inference that hold version 1.
    """

    def __init__(self, name: str) -> None:
        self.answers = list[Answer]()
        self._name = name
        self._jpeg = draw_image(np.random.default_rng(3), CLASSES)[0]
        self._pinned = model_control.list_served_versions(name)[0]
        self._client = self._open(self._pinned.version)
        self._kinds: list[tuple[str, Callable[[TritonServer], int]]] = [
            (kind, ask) for kind, ask in (("unnamed", self._unnamed), ("predict", self._predict)) for _ in range(2)
        ]
        self._kinds += [("pinned", self._ask_pinned)] * 2
        self._lock = threading.Lock()
        super().__init__(len(self._kinds))

    def __enter__(self) -> Self:
        self._lease = hold_lease(self._name, self._pinned.version, "clients")
        with disable_run_logger():
            self._lease.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        with disable_run_logger():
            self._lease.__exit__(None, None, None)
        self._client.close()

    @property
    def failures(self) -> list[str]:
        return [f"{answer.kind}: {answer.fault}" for answer in self.answers if answer.fault]

    def versions(self, kind: str) -> set[int]:
        return {answer.version for answer in self.answers if answer.kind == kind and not answer.fault}

    def show(self, what: str) -> None:
        counts = dict(Counter(answer.kind for answer in self.answers))
        longest = max(answer.seconds for answer in self.answers)
        print(
            f"\n{what}: {len(self.answers)} answers {counts}, {len(self.failures)} failed, the longest took "
            f"{longest:.1f} s",
            *self.failures[:3],
            *(f"\n  {count} times: {text}" for text, count in self._retried().items()),
        )

    def _retried(self) -> Counter[str]:
        """What an answer took besides: the errors of one server before the other answered."""
        return Counter(answer.retried for answer in self.answers if answer.retried)

    def run(self) -> None:
        with self._lock:
            kind, ask = self._kinds.pop()
        turn = 0
        while not self.stop.wait(0.05):
            turn += 1
            self.answers.append(self._ask(kind, ask, turn))

    def _ask(self, kind: str, ask: Callable[[TritonServer], int], turn: int) -> Answer:
        servers = list_servers()
        faults = list[str]()
        began = time.monotonic()
        for attempt in range(4):
            server = servers[(turn + attempt) % 2]
            try:
                version = ask(server)
                return Answer(kind, time.monotonic() - began, version, retried="; ".join(faults))
            except (InferenceServerException, OSError, http.client.HTTPException, StudioError) as error:
                faults.append(f"{server}: {error!r}")
        return Answer(kind, time.monotonic() - began, 0, "; ".join(faults))

    def _unnamed(self, server: TritonServer) -> int:
        square = triton.InferInput("images", [1, SIZE, SIZE, 3], "UINT8")
        square.set_data_from_numpy(np.full((1, SIZE, SIZE, 3), 90, np.uint8))
        with triton.InferenceServerClient(server.grpc) as client:
            answer = client.infer(self._name, [square], client_timeout=LONGEST_S)
        return int(answer.get_response().model_version)

    def _predict(self, server: TritonServer) -> int:
        connection = http.client.HTTPConnection(server.http, timeout=LONGEST_S)
        headers = {"Inference-Header-Content-Length": "0", "model": self._name}
        try:
            connection.request("POST", "/v2/models/predict/infer", self._jpeg, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise http.client.HTTPException(body.decode(errors="replace"))
        head = int(answer.getheader("Inference-Header-Content-Length", "0"))
        return int(json.loads(body[head + 4 :])["version"])

    def _ask_pinned(self, _: TritonServer) -> int:
        client = self._client
        try:
            client.infer(np.full((1, SIZE, SIZE, 3), 90, np.uint8))
        except VersionUnloadedError:  # it was kept for as long as was said: a run goes on with the champion
            with self._lock:
                if self._client is client:
                    self._client = self._open(int(champion(self._name)))
            return self._ask_pinned(_)
        return client.model.version

    def _open(self, version: int) -> TritonClient:
        model = model_control.first_ready_version.fn(self._name, version)
        return TritonClient([server.grpc for server in list_servers()], model, 2)


def on_first_wave(version: int, name: str, action: Callable[[], None]) -> threading.Thread:
    """Do something as soon as the first server serves a version."""

    def wait() -> None:
        with talking_to(list_servers()[0]):
            eventually(
                lambda: version in [each.version for each in model_control.list_served_versions(name)],
                f"the first to serve version {version}",
                120,
            )
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_server_killed_in_the_second_wave_costs_no_request_and_comes_back_with_the_champion(
    model: str, second: Second
) -> None:
    def kill_and_start() -> None:
        second.kill()
        time.sleep(1)  # as a supervisor does
        second.start()

    with BothClients(model) as clients:
        killing = on_first_wave(2, model, kill_and_start)
        state = deploy(model, 2, **UNCOMPARED)
        killing.join()
        time.sleep(1)
    clients.show(f"deployed while one was killed ({state.message})")
    assert clients.failures == []
    assert (clients.versions("unnamed"), clients.versions("predict")) == ({1, 2}, {1, 2})
    assert state.is_completed()
    assert champion(model) == "2"
    eventually(lambda: served(model) == [[2], [2]], "the champion on both")  # one that was away is asked after 5 s

    with BothClients(model) as clients:
        state = rollback(model)
        time.sleep(1)
    clients.show(f"rolled back ({state.message})")
    assert (clients.failures, clients.versions("pinned")) == ([], {2})
    assert state.message == f"{model} version 1 is the champion again"
    assert (champion(model), served(model)) == ("1", [[1], [1]])


def test_the_first_server_killed_while_it_changes_leaves_the_other_to_lead(
    model: str, second: Second, stack: StackSettings
) -> None:
    """The supervisor of the stack starts it again."""

    def kill_first() -> None:
        process_of(stack, "triton").kill()

    with BothClients(model) as clients:
        killing = on_first_wave(2, model, kill_first)
        state = deploy(model, 2, **UNCOMPARED)
        killing.join()
        assert [2] in served(model)
        eventually(lambda: is_live(first_of(stack)), "the first to be back", 60)
        repaired: State[Any] = repair_servers(return_state=True)  # it may have begun with the config before
        time.sleep(1)
    clients.show(f"deployed while the first was killed ({state.message}; {repaired.message})")
    assert (clients.failures, state.is_completed(), champion(model)) == ([], True, "2")
    assert served(model) == [[2], [2]]
    assert second.process.is_running()


def quiet(question: Callable[[], bool]) -> bool:
    with suppress(StudioError):
        return question()
    return False


def test_a_broken_version_changes_no_server(model: str, graph: Path, weights: Path, sample: Path) -> None:
    from tests.flows.registered import register

    broken = register(model, weights, sample)
    path = graph.with_name("broken.onnx")
    path.write_bytes(b"no graph")
    model_repository.publish_version.fn(model, broken, path)
    with BothClients(model) as clients:
        state = deploy(model, broken, **UNCOMPARED)
    clients.show("a broken version")
    assert (state.name, clients.failures) == ("Version refused", [])
    assert (champion(model), served(model), aside(model)) == ("1", [[1], [1]], [])


class Full(BaseHTTPRequestHandler):
    """A Triton whose GPU is full: it loads nothing. A stand-in, since here is no GPU to fill."""

    def do_GET(self) -> None:
        self._say(200, {"name": "triton", "version": "2.51.0"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/load"):
            self._say(400, {"error": "out of memory"})
        else:
            self._say(200, [] if self.path.endswith("/index") else {})

    def _say(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_if_one_server_refuses_the_version_all_go_back(
    model: str, second: Second, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [model_repository.ConfigFile(model).read(), champion(model), served(model)]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Full)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    try:
        with BothClients(model) as clients, monkeypatch.context() as patch:
            patch.setenv("TRITON_TARGETS", f"{second.targets},127.0.0.1:9/{address}")
            state = deploy(model, 2, **UNCOMPARED)
    finally:
        server.shutdown()
        server.server_close()
    clients.show(f"one server refused ({state.message})")
    assert state.is_failed()
    assert f"Triton at {address} could not load {model} (versions 2): out of memory" in str(state.message)
    assert [model_repository.ConfigFile(model).read(), champion(model), served(model)] == before
    assert (clients.failures, clients.versions("pinned")) == ([], {1})


def watched(stack: StackSettings, model: str) -> str | None:
    """What the front page sees of a model on the servers."""

    async def compare() -> str | None:
        async with httpx.AsyncClient() as client:
            found = await read_all(client, [server.http for server in list_servers()], stack.triton_key)
        return difference({address: {model: served.get(model)} for address, served in found.items()})

    return asyncio.run(compare())


def test_a_server_that_was_stopped_during_rollouts_is_put_right(
    model: str, second: Second, stack: StackSettings
) -> None:
    assert watched(stack, model) is None
    with BothClients(model) as clients, second.stopped():
        state = deploy(model, 2, **UNCOMPARED)
    clients.show(f"deployed while one was stopped ({state.message})")
    left = f"Triton at {second.server} did not answer, and is put right when it does"
    assert state.message == f"{model} version 2 is served and is the champion; {left}"
    assert clients.failures == []
    assert_wrong_and_repaired(model, second, watched(stack, model), [[2], [2]])

    with second.stopped():
        state = undeploy(model)
    assert str(state.message).endswith(left)
    assert_wrong_and_repaired(model, second, watched(stack, model), [[], []])


def assert_wrong_and_repaired(model: str, second: Second, seen: str | None, expected: list[list[int]]) -> None:
    eventually(lambda: find_wrong_servers(model) == [str(second.server)], "the second to answer", 30)
    assert seen is not None
    began = time.monotonic()
    state: State[Any] = repair_servers(return_state=True)
    print(f"\n{state.message}, after {time.monotonic() - began:.1f} s")
    assert state.is_completed()
    assert f"{model} on {second.server}" in str(state.message)
    assert served(model) == expected
    assert find_wrong_servers(model) == []
    state = repair_servers(return_state=True)
    assert state.message == "every Triton that answers serves what is deployed"


def test_a_server_that_starts_anew_serves_the_champion_by_itself(model: str, second: Second) -> None:
    assert deploy(model, 2, **UNCOMPARED).is_completed()
    for _ in range(2):
        second.kill()
        second.start()
        eventually(lambda: quiet(lambda: served(model) == [[2], [2]]), "version 2 on both", 60)
    assert find_wrong_servers(model) == []
