"""Who uses a version, by the real object store; and a version that is in use is not dropped."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

import boto3
import numpy as np
import pytest
from prefect.logging import disable_run_logger

from infra.stack_settings import ROOT, StackSettings
from tasks.deployment import rollout
from tasks.inference import triton_client as inference_client
from tasks.inference.triton_client import TritonClient, VersionUnloadedError
from tasks.parameters import ServingParams
from tasks.serving import kept_versions, model_control, model_repository
from tasks.serving.http_client import ServingError
from tasks.serving.served_model import ServedModel
from tasks.settings import Settings
from tasks.storage import leases
from tests.proxy import Proxy
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("stack")

HOLDING = """
import sys, time
from prefect.logging import disable_run_logger
from tasks.storage import leases
leases.LEASE_RENEW_INTERVAL_S = 0.5
with disable_run_logger(), leases.hold_lease(sys.argv[1], 3, "dying"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def name() -> Iterator[str]:
    with disable_run_logger():
        yield f"model-{uuid4().hex[:8]}"


def test_a_version_is_used_while_the_block_lasts(name: str) -> None:
    with leases.hold_lease(name, 1, "one"), leases.hold_lease(name, 1, "two"), leases.hold_lease(name, 12, "three"):
        assert leases.lease_holders(name) == {1: ["one", "two"], 12: ["three"]}
        assert leases.lease_holders(f"{name}-other") == leases.lease_holders(name[:-1]) == {}
    with pytest.raises(KeyError), leases.hold_lease(name, 1, "one"):
        raise KeyError
    assert leases.lease_holders(name) == {}


def renewed(key: str) -> datetime:
    """When a lease was written last."""
    return boto3.client("s3").head_object(Bucket="runs", Key=key)["LastModified"]


def test_a_run_that_is_killed_uses_nothing_soon(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"leases/{name}/3/dying"
    with subprocess.Popen([sys.executable, "-c", HOLDING, name], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        first = renewed(key)
        eventually(lambda: renewed(key) > first, "a renewed lease")
        assert leases.lease_holders(name) == {3: ["dying"]}
        process.send_signal(signal.SIGKILL)
    monkeypatch.setattr(leases, "LEASE_TTL_S", 1.0)
    eventually(lambda: not leases.lease_holders(name), "no lease")
    monkeypatch.setattr(leases, "LEASE_GC_S", 0.0)
    leases.lease_holders(name)
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"leases/{name}/")


def test_a_store_that_is_away_ends_no_run(
    name: str, stack: StackSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lease is renewed when it is back."""
    proxy = Proxy(stack.s3_port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setattr(leases, "LEASE_RENEW_INTERVAL_S", 0.3)
    monkeypatch.setattr(leases, "get_run_logger", lambda: logging.getLogger("leases"))
    with leases.hold_lease(name, 1, "one"):
        proxy.close()
        eventually(lambda: f"{name} version 1 may be dropped while this run uses it" in caplog.text, "a warning")
        proxy.open()
        boto3.client("s3").delete_object(Bucket="runs", Key=f"leases/{name}/1/one")
        eventually(lambda: leases.lease_holders(name) == {1: ["one"]}, "a renewed lease")
        proxy.close()
    proxy.open()
    assert "the lease could not be let go of" in caplog.text
    proxy.close()


class Held:
    """A served version 1 that a client is pinned to, and version 2 of the same graph, which waits."""

    def __init__(self, name: str, served: ServedModel) -> None:
        s3 = boto3.client("s3")
        self.first, self.second = (replace(served, name=name, version=version) for version in (1, 2))
        for model in (self.first, self.second):
            for file in model_repository.VERSION_FILES:
                key = f"{name}/{model.version}/{file}"
                s3.copy_object(Bucket="models", Key=key, CopySource=f"models/{served.name}/1/{file}")
        self.asides = model_repository.AsideVersions(name)
        model_control.load_versions.fn(name, [self.first], ServingParams(), 1)
        self.client = TritonClient([Settings().triton_grpc_url], self.first, 2)

    def ask(self) -> float:
        """Seconds until the pinned version has answered."""
        began = time.monotonic()
        size = self.first.image_size
        self.client.infer(np.zeros((1, size, size, 3), np.uint8))
        return time.monotonic() - began


@pytest.fixture
def held(name: str, served: ServedModel) -> Iterator[Held]:
    found = Held(name, served)
    yield found
    found.client.close()
    kept_versions.unload_unused(name)
    model_control.unload.fn(name)


def test_a_run_finishes_on_its_version_aside_and_the_last_to_let_go_drops_it(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_client, "UNLOADED_AFTER_S", 1.0)
    name, asides = held.first.name, held.asides
    with leases.hold_lease(name, 1, "one"):
        kept_versions.keep_in_use([held.first, held.second], ServingParams())
        model_control.load_versions.fn(name, [held.second], ServingParams(), 2)
        assert held.ask() < 2
        kept_versions.unload_unused(name)
        assert held.ask() < 2
        assert asides.names() == [f"{name}.1"]
    kept_versions.unload_unused(name)
    assert asides.names() == []
    with pytest.raises(VersionUnloadedError, match="is served no longer"):
        held.ask()


def test_a_version_is_kept_for_a_bounded_time(held: Held) -> None:
    """After it the run is to go on with the champion, which is what it finds then."""
    name = held.first.name
    with leases.hold_lease(name, 1, "one"):
        kept_versions.keep_in_use([held.first], ServingParams())
        model_control.load_versions.fn(name, [held.second], ServingParams(), 2)
        assert model_control.first_ready_version.fn(name, 1, 2).aside == f"{name}.1"
        kept_versions.keep_in_use([held.first], ServingParams(drain_timeout_s=0.0))
        with pytest.raises(VersionUnloadedError, match="the time for that is over"):
            held.ask()
        assert model_control.first_ready_version.fn(name, 1, 2) == held.second


def test_an_undeployment_is_at_once_and_leaves_a_run_its_version(held: Held) -> None:
    """Nobody else finds it: a new run is told that the model is not served."""
    name = held.first.name
    with leases.hold_lease(name, 1, "one"):
        rollout.undeploy(name, lambda: None)
        assert model_control.list_served_versions(name) == []
        assert held.ask() < 2
        with pytest.raises(ServingError, match="found no version"):
            model_control.first_ready_version.fn(name, 1)
