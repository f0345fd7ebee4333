"""`make chaos`: a disk that is full, and services that answer nothing for minutes."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import boto3
import psutil
import pytest

from infra import demo_data, supervisord
from infra.backup.manifests import BackupFolder
from infra.backup.taking import take
from infra.command_errors import StackError
from infra.demo_data import ArchivePlan
from infra.environment import scratch
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.chaos.steps import completed, log, read, until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
EPOCHS = 6
CUT_S = 300
CUT = ("prefect", "postgres", "mlflow", "object-store")
KNOWN_S = 600  # in which a run has ended after a cut


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a disk of this size over a folder; skips the test where we may not."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("only root mounts a disk")
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def frozen(stack: StackSettings, name: str) -> Iterator[None]:
    """Let a service answer nothing, while its connections stay open: as a network does that loses each packet."""
    with supervisord.connect(stack) as supervisor:
        service = psutil.Process(supervisor.getProcessInfo(name)["pid"])
    family = [service, *service.children(recursive=True)]
    try:
        for process in family:
            process.suspend()
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def start_training(folder: Path, epochs: int = EPOCHS) -> UUID:
    plan = ArchivePlan(name="outages.zip", classes=("circle", "square"), train=16, val=6, seed=1)
    boto3.client("s3").upload_file(str(demo_data.write_archive(plan, folder)), "datasets", plan.name)
    training = {"epochs": epochs, "imgsz": 64, "batch": 8, "rehearse": False}
    parameters = {"archives": [plan.name], "base_model": "yolo11n.yaml", "training": training}
    return deployed_flows.start("train-model", {"model_name": f"outage-{uuid4().hex[:8]}", **parameters})


def epochs_kept(run: UUID) -> int:
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=f"{run}/checkpoints/").get("Contents", [])
    return max((int(entry["Key"].split("/")[2]) for entry in found if entry["Key"].endswith(".json")), default=0)


def test_a_backup_onto_a_full_disk_says_so_and_goes_on_when_there_is_room(stack: StackSettings, tmp_path: Path) -> None:
    for number in range(8):
        boto3.client("s3").put_object(Bucket="media", Key=f"full/{number}", Body=uuid4().bytes * 65536)
    folder = tmp_path / "disk"
    with small_disk(folder, "6m"):
        with pytest.raises(StackError, match=r"Expected room for this backup .*No space left.*Make room"):
            take(stack, folder / "backups", lambda _: None)
        assert BackupFolder(folder / "backups").names() == []
        subprocess.run(["/bin/mount", "-o", "remount,size=500m", str(folder)], check=True)
        _, manifest = take(stack, folder / "backups", lambda _: None)
        assert [*BackupFolder(folder / "backups").verify(manifest)] == []
    print("backup | full disk | says so; whole when there was room", flush=True)


def test_a_training_on_a_full_scratch_disk_fails_with_what_to_do(stack: StackSettings, tmp_path: Path) -> None:
    with small_disk(scratch(stack), "300k"):
        run = start_training(tmp_path)
        until(lambda: (state := read(run).state) and state.is_final(), "it has ended")
        state = read(run).state
        assert state is not None
        assert state.is_failed(), state
        assert "Make room" in (state.message or ""), state.message
    print(f"train | full scratch disk | {state.name}: {(state.message or '')[:120]}", flush=True)


@pytest.mark.parametrize("victim", CUT)
def test_a_training_outlives_a_cut_of_five_minutes(stack: StackSettings, victim: str, tmp_path: Path) -> None:
    run = start_training(tmp_path)
    until(lambda: epochs_kept(run) >= 1, "its first epoch")
    with frozen(stack, victim):
        time.sleep(CUT_S)
    began = time.monotonic()
    deadline = began + KNOWN_S
    while not completed(run) and time.monotonic() < deadline:
        time.sleep(1)
    assert completed(run), (read(run).state, log(run)[-5:])
    print(f"train | {victim} cut for {CUT_S} s | {time.monotonic() - began:.0f} s | x{read(run).run_count}", flush=True)
