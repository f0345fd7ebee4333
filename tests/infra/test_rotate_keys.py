"""`make rotate-keys` on a whole stack with a front door, while people and runs are at work (`make proof`)."""

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Self

import boto3
import httpx
import numpy as np
import psycopg2
import pytest
from botocore.config import Config
from dotenv import dotenv_values

from infra import demo_data
from infra.accounts.bootstrap import open_accounts
from infra.accounts.cookies import SESSION
from infra.accounts.roles import UserRole
from infra.demo_data import ArchivePlan
from infra.front_door import program
from infra.identities import Role, secret_names
from infra.person_keys import give_key
from infra.rotation import state
from infra.rotation.doors import doors
from infra.services import s3_client
from infra.stack_settings import ROOT, SECRETS, VARIABLES, StackSettings
from infra.triton import KEY_HEADER
from tests.another_stack import another_stack, studio
from tests.infra.accounts.populations import add_person, add_session, add_token
from tests.infra.metrics.programs import ALERTMANAGER, PROMETHEUS
from tests.infra.public import NAME, Public
from tests.infra.serve_by_hand import MODEL
from tests.stack_environment import free_block
from tests.tasks.serving.graphs import encoded
from tests.waiting import eventually

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed"),
]
PERSON = "otto"
PLAN = ArchivePlan(name="rotated.zip", classes=("circle", "square"), train=12, val=4, seed=1)
EPOCHS = 110
KEPT = {"supervisor", "front_door", "admin_password"}
TOLD = {"triton_key"}  # to a Triton elsewhere
KILLED_AFTER = ("1/6", "2/6", "3/6", "  mlflow", "4/6", "  triton", "5/6")
PAUSE_S = 0.05
CHECK_EVERY_S = 5.0


@dataclass(frozen=True)
class Stack:
    """The running stack, its environment, what a person has in their hands, and what a Triton elsewhere was told."""

    public: Public
    environment: dict[str, str]
    token: str
    session: str
    s3_key: tuple[str, str]
    elsewhere: dict[str, str]

    @property
    def settings(self) -> StackSettings:
        """With the secrets of now."""
        return StackSettings.load()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("rotated") / "state"
    with another_stack(folder) as environment, pytest.MonkeyPatch.context() as patch:
        first = free_block(2)
        environment |= {
            "STUDIO_PUBLIC": "true",
            "STUDIO_PUBLIC_HOST": NAME,
            "STUDIO_PUBLIC_PORT": str(first),
            "STUDIO_PUBLIC_S3_PORT": str(first + 1),
            "STUDIO_METRICS": str(bool(PROMETHEUS and ALERTMANAGER)),
            "STUDIO_REVIEW": str((ROOT / ".venv-review" / "bin" / "label-studio").is_file()),
        }
        studio(environment, "up")
        for name in [each for names in VARIABLES.values() for each in names]:
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            if name.startswith("STUDIO_"):
                patch.setenv(name, value)
        known = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", lambda host, *more, **named: known(_found(host), *more, **named))
        settings = StackSettings.load()
        subprocess.run([sys.executable, "-m", "tests.infra.serve_by_hand"], env=environment, check=True, cwd=ROOT)
        with open_accounts(settings) as accounts:
            add_person(accounts, PERSON, UserRole.OPERATOR)
            token, session = add_token(accounts, PERSON), add_session(accounts, PERSON)
        made = give_key(settings, PERSON, UserRole.OPERATOR)
        store = f"http://127.0.0.1:{settings.s3_port}"
        printed = studio(environment, "triton-env", "gpu-8", "--store", store)
        elsewhere = {name: value or "" for name, value in dotenv_values(stream=StringIO(printed)).items()}
        yield Stack(Public(settings), environment, token, session, (made.key, made.secret), elsewhere)


def _found(host: Any) -> Any:
    return "127.0.0.1" if host == NAME else host


@pytest.fixture
def photo() -> bytes:
    return encoded(np.full((96, 128, 3), 90, np.uint8))


# ---- who works meanwhile --------------------------------------------------------------------------------------------


class Asking:
    """A thread a question, each asked again and again in a block: how often, how long it took at most, what failed."""

    def __init__(self, questions: Mapping[str, Callable[[], object]]) -> None:
        self.counts = Counter[str]()
        self.longest = dict.fromkeys(questions, 0.0)
        self.failed: list[str] = []
        self.away = dict.fromkeys(questions, 0.0)
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=each) for each in questions.items()]

    def _ask(self, name: str, question: Callable[[], object]) -> None:
        while not self._done.wait(PAUSE_S):
            began = time.monotonic()
            try:
                question()
            except Exception as error:  # noqa: BLE001 - of whichever client
                self.failed.append(f"{name} after {time.monotonic() - began:.1f} s: {error!r}")
                self.away[name] += time.monotonic() - began + PAUSE_S
            self.counts[name] += 1
            self.longest[name] = max(self.longest[name], time.monotonic() - began)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def tell(self) -> None:
        failures = Counter(line.partition(" after ")[0] for line in self.failed)
        for name, count in self.counts.items():
            words = f"{count} requests, {failures[name]} failed, the longest took {self.longest[name]:.1f} s"
            print(f"  {name}: {words}" + (f", away for {self.away[name]:.0f} s" if failures[name] else ""))


@pytest.fixture
def people(running: Stack, photo: bytes) -> Iterator[Asking]:
    """A person's programs and browser, through the front door."""
    public, auth = running.public, httpx.BasicAuth(PERSON, running.token)

    def client(**headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=public.url,
            verify=ssl.create_default_context(cafile=public.root),
            headers=headers,
            timeout=120,
            trust_env=False,
        )

    def ask(asked: httpx.Client, method: str, path: str, **what: Any) -> None:
        asked.request(method, path, **what).raise_for_status()

    store = _store(running, running.s3_key, public.settings.public_s3_url)
    store.put_object(Bucket="media", Key="constant", Body=b"1")
    told = running.elsewhere
    models = _store(running, (told["AWS_ACCESS_KEY_ID"], told["AWS_SECRET_ACCESS_KEY"]), told["AWS_ENDPOINT_URL"])
    with client(Cookie=f"{SESSION}={running.session}") as browser, client() as plain:
        plain.auth = auth
        yield Asking(
            {
                "a page": partial(ask, browser, "GET", "/datasets"),
                "Prefect, read": partial(ask, plain, "POST", "/prefect/api/flow_runs/filter", json={"limit": 5}),
                "Prefect, write": partial(
                    ask, plain, "PUT", "/prefect/api/saved_searches/", json={"name": "x", "filters": []}
                ),
                "MLflow": partial(
                    ask, plain, "POST", "/mlflow/api/2.0/mlflow/experiments/search", json={"max_results": 5}
                ),
                "predict": partial(ask, plain, "POST", f"/predict/{MODEL.name}", content=photo),
                "S3, read": lambda: _read(store),
                "S3, write": lambda: store.put_object(Bucket="media", Key="constant", Body=b"1"),
                "S3, a Triton elsewhere": lambda: models.list_objects_v2(Bucket="models", MaxKeys=1)["Contents"],
            }
        )


def _read(store: Any) -> None:
    assert store.get_object(Bucket="media", Key="constant")["Body"].read() == b"1"


def _store(running: Stack, keys: tuple[str, str], address: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name="us-east-1",
        verify=running.public.root,
        config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}, read_timeout=120),
    )


def on_the_machine(running: Stack) -> Asking:
    """Programs of the owner that ask the services themselves, with the password of now or the one before."""
    settings = running.settings
    ports = {"studio": settings.live_port, "Prefect": settings.prefect_port, "MLflow": settings.mlflow_port}
    paths = {"studio": "/live", "Prefect": "/api/health", "MLflow": "/health"}

    def ask(method: str, address: str, **what: Any) -> None:
        httpx.request(method, address, timeout=120, trust_env=False, **what).raise_for_status()

    asked = {
        f"{name} itself": partial(ask, "GET", f"http://127.0.0.1:{port}{paths[name]}") for name, port in ports.items()
    }
    triton = f"http://127.0.0.1:{settings.triton_http_port}/v2/models/{MODEL.name}/ready"
    return Asking(asked | {"Triton itself": partial(ask, "GET", triton)})


def start_training(running: Stack) -> str:
    """A training of a person; returns the id of its flow run, which has kept two epochs."""
    settings = running.settings
    archive = demo_data.write_archive(PLAN, settings.state_dir)
    s3_client(settings, Role.PERSON).upload_file(str(archive), "datasets", PLAN.name)
    training = {"epochs": EPOCHS, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {
        "model_name": "rotated",
        "archives": [PLAN.name],
        "base_model": "yolo11n.yaml",
        "training": training,
    }
    with person(running) as api:
        deployment = api.get("/prefect/api/deployments/name/train-model/gpu").raise_for_status().json()["id"]
        made = api.post(f"/prefect/api/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        run = str(made.raise_for_status().json()["id"])
    eventually(lambda: epochs_kept(running, run) >= 2, "a training that has kept an epoch", 300, every_s=1)
    return run


@contextmanager
def checks_begin(running: Stack) -> Iterator[list[str]]:
    """Begin a check of the archive every few seconds in the block; yields the ids of their flow runs."""
    made, done = list[str](), threading.Event()

    def begin() -> None:
        with person(running) as api:
            found = api.get("/prefect/api/deployments/name/validate-dataset/gpu").raise_for_status().json()["id"]
            while not done.wait(CHECK_EVERY_S):
                asked = {"parameters": {"archive": PLAN.name}}
                answer = api.post(f"/prefect/api/deployments/{found}/create_flow_run", json=asked)
                made.append(answer.raise_for_status().json()["id"])

    thread = threading.Thread(target=begin)
    thread.start()
    try:
        yield made
    finally:
        done.set()
        thread.join()


def person(running: Stack) -> httpx.Client:
    verify = ssl.create_default_context(cafile=running.public.root)
    auth = (PERSON, running.token)
    return httpx.Client(base_url=running.public.url, verify=verify, auth=auth, timeout=120, trust_env=False)


def epochs_kept(running: Stack, run: str) -> int:
    found = s3_client(running.settings).list_objects_v2(Bucket="runs", Prefix=f"{run}/checkpoints/")
    names = [entry["Key"].split("/") for entry in found.get("Contents", []) if entry["Key"].endswith(".json")]
    return max((int(parts[2]) for parts in names), default=0)


def read_run(running: Stack, run: str) -> Any:
    with person(running) as api:
        return api.get(f"/prefect/api/flow_runs/{run}").raise_for_status().json()


# ---- the rotation ---------------------------------------------------------------------------------------------------


def rotate(running: Stack, *options: str, kill_after: str | None = None) -> list[str]:
    """Start it, and return what it says; killed as soon as it has said `kill_after`."""
    command = [sys.executable, "-m", "studio", "rotate-keys", *options]
    environment = running.environment | {"PYTHONUNBUFFERED": "1"}
    said = []
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            print(f"  | {said[-1]}")
            if kill_after and kill_after in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == (-signal.SIGKILL if kill_after else 0), said
    return said


def require_changed(running: Stack, before: Mapping[str, str], kept: set[str] = KEPT) -> None:
    """Each secret but those that are kept has another value; the former ones open no door, the new ones each."""
    settings = running.settings
    assert {name for name in SECRETS if settings.secrets[name] == before[name]} == kept
    assert state.read(settings.state_dir) is None
    former = {"postgres_user": "postgres", **{name: before[name] for name in before if name not in kept}}
    now = {"postgres_user": "postgres", **settings.secrets}
    assert {name for name, door in doors(settings, former).items() if door()} == set()
    assert [name for name, door in doors(settings, now).items() if not door()] == []
    api = f"http://127.0.0.1:{settings.prefect_port}/api/flows/count"
    assert httpx.post(api, auth=("studio", before["prefect"]), json={}).status_code == 401
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(
            f"postgresql://{former['postgres_user']}:{former['postgres']}@127.0.0.1:{settings.postgres_port}/mlflow"
        )
    written = dotenv_values(settings.state_dir / "env")
    assert written["PREFECT_API_AUTH_STRING"] == f"studio:{now['prefect']}"
    environment = {name: value for name, value in written.items() if value}
    assert httpx.post(api, auth=tuple(environment["PREFECT_API_AUTH_STRING"].split(":")), json={}).is_success  # type: ignore[arg-type]
    left = [path for path in settings.state_dir.rglob("*") if path.is_file() and _holds_any(path, former)]
    assert left == []


def _holds_any(path: Path, secrets: Mapping[str, str]) -> bool:
    """Whether a file of ours still has a value that was changed; the databases have hashes alone.

    The store's log has the names of keys that it refused. Without its secret a key opens nothing.
    """
    if {"postgres", "s3", "scratch", "triton"} & {*path.parts} or path.stat().st_size > 1 << 24:
        return False
    content = path.read_bytes()
    names = {"postgres_user", *(secret_names(role)[0] for role in Role)}
    return any(value.encode() in content for name, value in secrets.items() if name not in names)


def loads_models(running: Stack) -> bool:
    """Whether the load API of the Tritons takes the key that one elsewhere was told."""
    address = f"http://127.0.0.1:{running.settings.triton_http_port}/v2/repository/index"
    return httpx.post(address, headers={KEY_HEADER: running.elsewhere["STUDIO_TRITON_KEY"]}).status_code == 200


def test_every_key_changes_and_nobody_loses_a_request(running: Stack, people: Asking) -> None:
    before, run = dict(running.settings.secrets), start_training(running)
    machine = on_the_machine(running)
    began = time.monotonic()
    with people, machine, checks_begin(running) as checks:
        time.sleep(3)
        said = rotate(running)
        took = time.monotonic() - began - 3
        time.sleep(3)
    print(f"rotated in {took:.0f} s; through the front door:")
    people.tell()
    print("on the machine itself:")
    machine.tell()
    assert people.failed == []
    assert min(people.counts.values()) > 10
    require_changed(running, before, KEPT | TOLD)
    assert [line for line in said if line.startswith("  triton_key: machines elsewhere have it")]
    assert loads_models(running)
    (handed_over,) = (int(found[1]) for line in said if (found := re.match(r"  flow runs handed over: (\d+)", line)))
    assert handed_over >= 1
    values = [each[name] for each in (before, running.settings.secrets) for name in SECRETS]
    assert not [line for line in said if any(value in line for value in values)]
    kept_at = epochs_kept(running, run)
    for check in checks:
        eventually(lambda: read_run(running, check)["state_type"] == "COMPLETED", "a check", 300, every_s=1)  # noqa: B023
    print(f"flow runs: {handed_over} handed over; all {len(checks)} checks that began meanwhile have ended well")
    eventually(lambda: read_run(running, run)["state_type"] == "COMPLETED", "the training", 1500, every_s=2)
    assert read_run(running, run)["run_count"] == 2
    epochs = epochs_of_its_one_training(running, run)
    between = [after - before for before, after in pairwise(epochs)]
    print(f"the training: {median(between):.1f} s an epoch, and {max(between):.1f} s where it was handed over")
    print(f"{len(epochs)} epochs, of which {kept_at} were kept by the end of the rotation")
    assert len(epochs) > kept_at


def epochs_of_its_one_training(running: Stack, run: str) -> list[float]:
    """When each epoch ended, of the one run of MLflow that a flow run has, in seconds."""
    with person(running) as api:
        condition = {"experiment_ids": [_experiment(api)], "filter": f"tags.flow_run_id = '{run}'"}
        (tracked,) = api.post("/mlflow/api/2.0/mlflow/runs/search", json=condition).raise_for_status().json()["runs"]
        asked = {"run_id": tracked["info"]["run_id"], "metric_key": "epoch_seconds", "max_results": 1000}
        history = api.get("/mlflow/api/2.0/mlflow/metrics/get-history", params=asked).raise_for_status().json()
    assert tracked["info"]["status"] == "FINISHED"
    steps = [each["step"] for each in history["metrics"]]
    assert steps == list(range(1, len(steps) + 1))  # it may end early
    return [each["timestamp"] / 1000 for each in history["metrics"]]


def _experiment(api: httpx.Client) -> str:
    found = api.get("/mlflow/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "training"})
    return str(found.raise_for_status().json()["experiment"]["experiment_id"])


def test_killed_after_each_step_it_goes_on_and_ends_right(running: Stack, people: Asking) -> None:
    before = dict(running.settings.secrets)
    with people:
        for line in KILLED_AFTER:
            said = rotate(running, "--elsewhere", kill_after=line)
            assert line == "1/6" or "goes on with the new values" in said[0]
            assert state.is_under_way(running.settings.state_dir)
        said = rotate(running, "--elsewhere")
    people.tell()
    assert people.failed == []
    require_changed(running, before)
    assert [line for line in said if "machines elsewhere had triton_key: print their files again" in line]
    assert not loads_models(running)


def test_a_worker_that_would_keep_the_former_keys_is_named(running: Stack) -> None:
    before = dict(running.settings.secrets)
    with subprocess.Popen(
        [sys.executable, "-m", "studio", "worker", "--queue", "checks"], env=running.environment, cwd=ROOT
    ) as worker:
        pool = f"http://127.0.0.1:{running.settings.prefect_port}/api/work_pools/gpu/workers/filter"

        def workers() -> int:
            found = httpx.post(pool, auth=("studio", running.settings.secrets["prefect"]), json={}, timeout=30)
            return len([each for each in found.raise_for_status().json() if each["status"] == "ONLINE"])

        known = workers()
        eventually(lambda: workers() > known, "a worker that Prefect knows", 60, every_s=0.5)
        command = [sys.executable, "-m", "studio", "rotate-keys", "--json"]
        refused = subprocess.run(
            command, env=running.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        worker.terminate()
    eventually(lambda: workers() == known, "that Prefect sees its end", 150, every_s=1)
    assert refused.returncode == 1
    assert "this cannot give them new keys" in refused.stderr
    assert running.settings.secrets == before


def test_it_ends_when_the_stack_is_stopped_and_nothing_changes_while_it_is_down(running: Stack) -> None:
    before = dict(running.settings.secrets)
    command = [sys.executable, "-m", "studio", "rotate-keys", "--elsewhere"]
    environment = running.environment | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        begun = ""
        while not begun.endswith("\n3/6"):
            read = process.stdout.read(1)
            assert read, begun
            begun += read
        studio(running.environment, "down")
        down_at = time.monotonic()
        said = process.stdout.read()
    print(f"it ended {time.monotonic() - down_at:.1f} s after the stack")
    assert process.returncode == 1
    assert "found one that was stopped. `studio up`, then" in said
    assert time.monotonic() - down_at < 15
    again = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "found one that was cut short" in again.stderr
    studio(running.environment, "up")
    rotate(running, "--elsewhere")
    require_changed(running, before)


def test_what_needs_a_restart_of_all_changes_while_the_stack_is_down(running: Stack) -> None:
    before = dict(running.settings.secrets)
    studio(running.environment, "down")
    outcome = json.loads(studio(running.environment, "rotate-keys", "--json"))
    assert sorted(outcome["rotated"]) == ["front_door", "supervisor"]
    studio(running.environment, "up")
    now = running.settings.secrets
    assert {name for name in now if now[name] != before[name]} == {"front_door", "supervisor"}
    with person(running) as api:
        assert api.post("/prefect/api/flow_runs/filter", json={}).is_success
    url = f"http://127.0.0.1:{running.settings.supervisor_port}/RPC2"
    assert httpx.post(url, auth=("studio", before["supervisor"])).status_code == 401
