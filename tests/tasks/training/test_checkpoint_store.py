"""Checkpoints in the real object store: what is written, and what is trusted when it is read."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from prefect.logging import disable_run_logger

from tasks.training.checkpoint_store import CheckpointStore
from tasks.training.checkpoints import RestoredCheckpoint
from tasks.training.events import EpochResult

pytestmark = pytest.mark.usefixtures("stack")


@pytest.fixture(autouse=True)
def _no_run() -> Iterator[None]:
    with disable_run_logger():
        yield


@pytest.fixture
def run_id() -> str:
    return str(uuid4())


def content(epoch: int) -> bytes:
    return f"weights of epoch {epoch}".encode() * 1000


def train(store: CheckpointStore, folder: Path, best: dict[int, int]) -> None:
    """Have the store keep these epochs, each with the best so far."""
    for number, best_so_far in best.items():
        path = folder / f"{number}.pt"
        path.write_bytes(content(number))
        store.keep(
            EpochResult(
                number=number,
                total_epochs=9,
                metrics={},
                seconds=1.0,
                batch=8,
                checkpoint=path,
                best=best_so_far,
                is_last=number == 9,
            )
        )


def restore(run_id: str, folder: Path, fingerprint: str = "this") -> RestoredCheckpoint | None:
    return CheckpointStore(run_id, fingerprint).restore(folder)


def keys(run_id: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix=run_id).get("Contents", [])
    return [entry["Key"].removeprefix(f"{run_id}/checkpoints/") for entry in found]


def put(run_id: str, name: str, body: bytes) -> None:
    boto3.client("s3").put_object(Bucket="runs", Key=f"{run_id}/checkpoints/{name}", Body=body)


def test_the_newest_comes_back_with_the_best(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 2, 3: 2, 4: 2})
    found = restore(run_id, tmp_path)
    assert found is not None
    assert found.best is not None
    assert (found.manifest.epoch, found.manifest.best, found.manifest.batch) == (4, 2, 8)
    assert (found.weights.read_bytes(), found.best.read_bytes()) == (content(4), content(2))


def test_nothing_is_there_at_first(run_id: str, tmp_path: Path) -> None:
    assert restore(run_id, tmp_path) is None


def test_only_what_a_resume_needs_is_kept(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 2, 3: 2, 4: 2, 5: 2})
    assert {key[:5] for key in keys(run_id)} == {"00002", "00004", "00005"}


def test_another_process_goes_on_removing_what_is_superseded(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 2, 3: 2})
    store = CheckpointStore(run_id, "this")
    store.restore(tmp_path)
    train(store, tmp_path, {4: 4, 5: 5})
    assert {key[:5] for key in keys(run_id)} == {"00004", "00005"}


def test_the_checksum_lies_beside_the_file(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1})
    s3, key = boto3.client("s3"), f"{run_id}/checkpoints/00001"
    manifest = json.loads(s3.get_object(Bucket="runs", Key=f"{key}/checkpoint.json")["Body"].read())
    body = s3.get_object(Bucket="runs", Key=f"{key}/last.pt")["Body"].read()
    assert manifest["sha256"] == hashlib.sha256(body).hexdigest()
    assert manifest["size"] == len(body)
    assert s3.head_object(Bucket="runs", Key=f"{key}/last.pt")["Metadata"]["sha256"] == manifest["sha256"]


@pytest.mark.parametrize("torn", [content(3)[:-1], b"", content(2)])
def test_a_torn_checkpoint_gives_way_to_the_one_before_it(run_id: str, tmp_path: Path, torn: bytes) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 1, 3: 1})
    put(run_id, "00003/last.pt", torn)
    found = restore(run_id, tmp_path)
    assert found is not None
    assert (found.manifest.epoch, found.weights.read_bytes()) == (2, content(2))


def test_a_file_without_its_manifest_was_not_written_to_its_end(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 1})
    put(run_id, "00003/last.pt", content(3))
    found = restore(run_id, tmp_path)
    assert found is not None
    assert found.manifest.epoch == 2


@pytest.mark.parametrize("manifest", [b"", b"{", b'{"epoch": 7}'])
def test_a_manifest_that_cannot_be_read_is_passed_over(run_id: str, tmp_path: Path, manifest: bytes) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1})
    put(run_id, "00002/last.pt", content(2))
    put(run_id, "00002/checkpoint.json", manifest)
    found = restore(run_id, tmp_path)
    assert found is not None
    assert found.manifest.epoch == 1


def test_a_manifest_whose_file_is_gone_is_passed_over(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 2})
    boto3.client("s3").delete_object(Bucket="runs", Key=f"{run_id}/checkpoints/00002/last.pt")
    found = restore(run_id, tmp_path)
    assert found is not None
    assert found.manifest.epoch == 1


def test_a_checkpoint_of_another_training_is_not_used(run_id: str, tmp_path: Path) -> None:
    """Not one of other data or parameters, and not one that was copied from another run."""
    train(CheckpointStore(run_id, "other"), tmp_path, {1: 1})
    assert restore(run_id, tmp_path) is None
    foreign = str(uuid4())
    train(CheckpointStore(foreign, "this"), tmp_path, {5: 5})
    for name in ("last.pt", "checkpoint.json"):
        source = {"Bucket": "runs", "Key": f"{foreign}/checkpoints/00005/{name}"}
        boto3.client("s3").copy(source, "runs", f"{run_id}/checkpoints/00005/{name}")  # type: ignore[arg-type]
    assert restore(run_id, tmp_path) is None


def test_lost_best_weights_do_not_stop_the_resume(run_id: str, tmp_path: Path) -> None:
    train(CheckpointStore(run_id, "this"), tmp_path, {1: 1, 2: 1, 3: 1})
    put(run_id, "00001/last.pt", b"torn")
    found = restore(run_id, tmp_path)
    assert found is not None
    assert (found.manifest.epoch, found.best) == (3, None)


def test_a_file_that_has_made_way_for_a_later_epoch_is_no_error(run_id: str, tmp_path: Path) -> None:
    CheckpointStore(run_id, "this").keep(
        EpochResult(number=1, total_epochs=9, metrics={}, best=1, checkpoint=tmp_path / "gone.pt")
    )
    assert keys(run_id) == []


def test_the_best_epoch_is_kept_though_its_own_turn_was_missed(run_id: str, tmp_path: Path) -> None:
    """An upload that takes longer than an epoch skips some; the best weights must not be among them."""
    for name, number in (("best-3", 3), ("5", 5)):
        (tmp_path / f"{name}.pt").write_bytes(content(number))
    store = CheckpointStore(run_id, "this")
    store.keep(
        EpochResult(
            number=5,
            total_epochs=9,
            metrics={},
            seconds=1.0,
            batch=8,
            checkpoint=tmp_path / "5.pt",
            best=3,
            best_checkpoint=tmp_path / "best-3.pt",
        )
    )
    found = restore(run_id, tmp_path)
    assert found is not None
    assert found.best is not None
    assert (found.weights.read_bytes(), found.best.read_bytes()) == (content(5), content(3))
