"""A backup of a stack at work, and the stack that comes of it elsewhere: nothing is missing, and runs go on."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest

from infra import demo_data
from infra.backup.manifests import BackupFolder
from infra.demo_data import ArchivePlan
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.another_stack import another_stack, studio
from tests.chaos.steps import until
from tests.flows.steps import QUICK

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]
EPOCHS = 120  # more than the backup takes


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[dict[str, str]]:
    with another_stack(tmp_path / "elsewhere") as environment:
        yield environment


def knows(environment: dict[str, str], *runs: str) -> Any:
    command = [sys.executable, "-m", "tests.chaos.restored_stack", *runs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def at_work(model: str, folder: Path) -> Iterator[dict[str, Any]]:
    """People upload objects and archives, and deploy a version and go back, again and again."""
    over = threading.Event()
    done: dict[str, Any] = {"objects": 0, "rollouts": [], "errors": []}
    archive = demo_data.write_archive(ArchivePlan(name="busy.zip", classes=("circle",), train=3, val=2, seed=9), folder)

    def upload() -> None:
        s3 = boto3.client("s3")
        while not over.is_set():
            s3.put_object(Bucket="media", Key=f"busy/{done['objects']:06d}.bin", Body=os.urandom(50_000))
            if done["objects"] % 20 == 0:
                s3.upload_file(str(archive), "datasets", archive.name)
            done["objects"] += 1
            time.sleep(0.02)

    def roll() -> None:
        serving = QUICK | {"parity": None}
        while not over.is_set():
            for flow, parameters in (
                ("deploy-model", {"model_name": model, "version": 2, "serving": serving}),
                ("rollback-model", {"model_name": model}),
            ):
                run = deployed_flows.start(flow, parameters)
                state = deployed_flows.wait(run, 300)
                done["rollouts"].append((flow, state.name))
                if not state.is_completed():
                    done["errors"].append(state.message)

    threads = [threading.Thread(target=upload), threading.Thread(target=roll)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()


def epochs_kept(run: UUID) -> int:
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{run}/checkpoints/").get("Contents", [])
    return max((int(entry["Key"].split("/")[2]) for entry in found if entry["Key"].endswith(".json")), default=0)


def test_a_stack_at_work_is_backed_up_and_another_goes_on_from_there(
    stack: StackSettings,  # noqa: ARG001
    model: str,
    elsewhere: dict[str, str],
    tmp_path: Path,
) -> None:
    plan = ArchivePlan(name="restored.zip", classes=("circle", "square"), train=12, val=4, seed=1)
    boto3.client("s3").upload_file(str(demo_data.write_archive(plan, tmp_path)), "datasets", plan.name)
    check = deployed_flows.start("validate-dataset", {"archive": plan.name})
    until(lambda: deployed_flows.wait(check, 300).is_completed(), "the archive is checked")
    trained = f"trained-{uuid4().hex[:6]}"
    training = {"epochs": EPOCHS, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {"model_name": trained, "archives": [plan.name], "base_model": "yolo11n.yaml", "training": training}
    run = deployed_flows.start("train-model", parameters)
    until(lambda: epochs_kept(run) >= 2, "two epochs")

    folder, here = tmp_path / "backups", dict(os.environ)
    with at_work(model, tmp_path) as done:
        time.sleep(5)
        began = time.monotonic()
        told = studio(here, "backup", str(folder))
        seconds, reached = time.monotonic() - began, epochs_kept(run)
        assert reached < EPOCHS, "the training has ended too soon"
        deployed_flows.cancel(run)
    assert done["errors"] == []
    print(f"backup | {seconds:.1f} s beside {done} | {told!r}", flush=True)
    source = BackupFolder(folder)
    _, manifest = source.read()
    assert [*source.verify(manifest)] == []
    keys = {(entry.bucket, entry.key) for entry in source.objects(manifest)}
    kept = max(int(key.split("/")[2]) for _, key in keys if key.startswith(f"{run}/checkpoints/"))
    assert kept >= 2

    began = time.monotonic()
    print(studio(elsewhere, "restore", str(folder)), flush=True)
    restored = time.monotonic() - began
    studio(elsewhere, "up")
    up = time.monotonic() - began - restored
    first = knows(elsewhere)
    # Versions that a fixture has registered name flow runs that never were.
    assert {*first["dangling"]} <= {*knows(here)["dangling"]}
    (champion,) = (str(each) for each in first["models"][model]["served"])
    assert first["models"][model]["aliases"]["champion"] == champion
    assert first["models"][model]["versions"] == [1, 2]

    datasets = json.loads(studio(elsewhere, "datasets", "--json"))["entries"]
    (entry,) = (each for each in datasets if each["name"] == plan.name)
    (as_it_was,) = (
        each for each in json.loads(studio(here, "datasets", "--json"))["entries"] if each["name"] == plan.name
    )
    assert (entry["verdict"], entry["etag"]) == (as_it_was["verdict"], as_it_was["etag"])
    assert entry["verdict"]

    ended = knows(elsewhere, str(run))
    print(f"restore | {restored:.0f} s, up in {up:.0f} s | {ended['ended']} | last checkpoint {kept}", flush=True)
    assert ended["ended"][str(run)]["state"] == "Completed", ended["ended"]
    assert ended["ended"][str(run)]["attempts"] >= 2
    assert ended["models"][trained]["versions"] == [1]
    lines = studio(elsewhere, "logs", str(run))
    assert f"carrying on after epoch {kept}" in lines
    assert trained in studio(elsewhere, "lineage", plan.name)
