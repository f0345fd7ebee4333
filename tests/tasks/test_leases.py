"""Who uses a version, by the real object store; and a version that is in use is not dropped."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

import boto3
import pytest
from prefect.logging import disable_run_logger

from infra.settings import ROOT, StackSettings
from tasks.core.canary import Requests
from tasks.core.parameters import ServingParams
from tasks.core.served import ServedModel
from tasks.serving import control, rollout, usage
from tasks.serving.usage import Usage, Users, nobody
from tasks.storage import leases, repository
from tasks.storage.connection import StorageError
from tests.tasks.proxy import Proxy

pytestmark = pytest.mark.usefixtures("stack")

HOLDING = """
import sys, time
from prefect.logging import disable_run_logger
from tasks.storage import leases, repository
leases.RENEW_S = 0.5
with disable_run_logger(), leases.using(sys.argv[1], 3, "dying"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def name() -> Iterator[str]:
    with disable_run_logger():
        yield f"model-{uuid4().hex[:8]}"


def test_a_version_is_used_while_the_block_lasts(name: str) -> None:
    with leases.using(name, 1, "one"), leases.using(name, 1, "two"), leases.using(name, 12, "three"):
        assert leases.users(name) == {1: ["one", "two"], 12: ["three"]}
        assert leases.users(f"{name}-other") == leases.users(name[:-1]) == {}
    with pytest.raises(KeyError), leases.using(name, 1, "one"):
        raise KeyError
    assert leases.users(name) == {}


def test_a_run_that_is_killed_uses_nothing_soon(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LIFE_S", 3.0)
    with subprocess.Popen([sys.executable, "-c", HOLDING, name], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        time.sleep(5)
        assert leases.users(name) == {3: ["dying"]}
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while leases.users(name):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    monkeypatch.setattr(leases, "FORGOTTEN_S", 0.0)
    leases.users(name)
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"leases/{name}/")


def test_a_store_that_is_away_ends_no_run(
    name: str, stack: StackSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lease is renewed when it is back."""
    proxy = Proxy(stack.s3_port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setattr(leases, "RENEW_S", 0.3)
    monkeypatch.setattr(leases, "get_run_logger", lambda: logging.getLogger("leases"))
    with leases.using(name, 1, "one"):
        proxy.close()
        time.sleep(1)
        proxy.open()
        boto3.client("s3").delete_object(Bucket="runs", Key=f"leases/{name}/1/one")
        time.sleep(1)
        assert leases.users(name) == {1: ["one"]}
        proxy.close()
    proxy.open()
    assert f"{name} version 1 may be dropped while this run uses it" in caplog.text
    assert "the lease could not be let go of" in caplog.text
    proxy.close()


@pytest.mark.parametrize("quiet_s", [0.0, 0.5])
def test_versions_that_are_held_are_in_use(name: str, quiet_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "ASKED_EVERY_S", 0.0)
    models = [ServedModel(name, version, "detect", 96, ("a",), "run") for version in (1, 2)]
    watched = Usage(models, leases.users, lambda _: Requests())
    with leases.using(name, 1, "one"):
        watched.lately(quiet_s)
        time.sleep(1)
        assert watched.lately(quiet_s) == models[:1]
        assert watched.is_held()
    assert watched.lately(quiet_s) == (models[:1] if quiet_s else [])
    assert not watched.is_held()
    time.sleep(1)
    assert watched.lately(quiet_s) == []


def test_versions_are_in_use_while_nobody_can_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "ASKED_EVERY_S", 0.0)
    model = ServedModel(name, 1, "detect", 96, ("a",), "run")
    answers: Iterator[Users] = iter([away, away, nobody, away])

    def users(name: str) -> Mapping[int, Sequence[str]]:
        return next(answers)(name)

    watched = Usage([model], users, lambda _: Requests())
    assert [watched.lately(0.0) for _ in range(4)] == [[model], [model], [], []]


def away(_: str) -> dict[int, list[str]]:
    raise StorageError("away")


def test_an_undeployment_waits_for_a_run(
    name: str, served: ServedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it takes, and says for whom; a Triton that is started anew meanwhile would serve it, too."""
    s3, config = boto3.client("s3"), repository.ConfigFile(name)
    for file in ("model.onnx", "model.py"):
        s3.copy_object(Bucket="models", Key=f"{name}/1/{file}", CopySource=f"models/{served.name}/1/{file}")
    model, serving = replace(served, name=name), ServingParams(drain_s=0.5, drain_timeout_s=1.0)
    control.load_versions.fn(name, [model], serving, 1)
    monkeypatch.setattr(usage, "TOLD_EVERY_S", 1.0)
    monkeypatch.setattr(usage, "get_run_logger", lambda: logging.getLogger("usage"))
    caplog.set_level("INFO", "usage")
    undeploying = threading.Thread(target=lambda: rollout.take_out(name, config, leases.users))
    with leases.using(name, 1, "one"):
        undeploying.start()
        time.sleep(8)
        found = control.snapshot.fn(name)
        assert ([each.version for each in found.versions], found.champion) == ([1], 0)
        assert 'string_value: "0"' in str(config.read())
        assert f"waiting for flow runs that use {name} (version 1: one)" in caplog.text
    undeploying.join(timeout=60)
    assert (control.served_versions.fn(name), config.read()) == ([], None)
