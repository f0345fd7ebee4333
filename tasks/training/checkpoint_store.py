"""Checkpoints of a training in bucket `runs`, under the id of its flow run."""

from dataclasses import replace
from pathlib import Path

from prefect import get_run_logger
from pydantic import ValidationError

from tasks.files import sha256_of
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.training.checkpoints import (
    MANIFEST,
    WEIGHTS,
    Manifest,
    RestoredCheckpoint,
    checkpoint_key,
    epochs_to_retain,
    matching_checkpoints,
)
from tasks.training.events import EpochResult

_RUNS = ObjectStore(Bucket.RUNS, wait_s=0)


class CheckpointStore:
    """Keeps the checkpoint of each finished epoch, and finds the newest that can be trusted.

    `fingerprint` says what is trained on what; a checkpoint of anything else is never restored.
    """

    def __init__(self, flow_run_id: str, fingerprint: str) -> None:
        self._flow_run_id = flow_run_id
        self._fingerprint = fingerprint
        self._known: dict[int, Manifest] = {}

    def keep(self, epoch: EpochResult) -> None:
        """Upload the epoch's checkpoint and after it its manifest, then remove those that no resume needs any more.

        Where the best epoch is another, whose checkpoint made way before it could be uploaded, that one comes first.
        Does nothing where the file has itself made way for that of a later epoch.
        """
        if epoch.best != epoch.number and epoch.best not in self._known and epoch.best_checkpoint is not None:
            self._upload(epoch.best_checkpoint, replace(epoch, number=epoch.best, is_last=False))
        if epoch.checkpoint is not None and self._upload(epoch.checkpoint, epoch):
            self._prune()

    def _upload(self, checkpoint: Path, epoch: EpochResult) -> bool:
        try:
            file = checkpoint.rename(checkpoint.with_name("uploading"))
        except FileNotFoundError:
            return False
        manifest = Manifest(
            flow_run_id=self._flow_run_id,
            fingerprint=self._fingerprint,
            epoch=epoch.number,
            best=epoch.best,
            last=epoch.is_last,
            batch=epoch.batch,
            sha256=sha256_of(file),
            size=file.stat().st_size,
        )
        _RUNS.upload(file, self._key(manifest.epoch, WEIGHTS), {"sha256": manifest.sha256})
        _RUNS.put(self._key(manifest.epoch, MANIFEST), manifest.model_dump_json(indent=2).encode())
        self._known[manifest.epoch] = manifest
        return True

    def _prune(self) -> None:
        for epoch in sorted(set(self._known) - epochs_to_retain(self._known.values())):
            for name in (MANIFEST, WEIGHTS):  # in this order no manifest is ever without its file
                _RUNS.delete(self._key(epoch, name))
            del self._known[epoch]

    def exist(self) -> bool:
        """Whether this training has a checkpoint."""
        return bool(matching_checkpoints(self._manifests(), self._flow_run_id, self._fingerprint))

    def restore(self, folder: Path) -> RestoredCheckpoint | None:
        """Download the newest checkpoint whose bytes are those that were written; None where there is none.

        One that is torn or of another training is logged and passed over.
        """
        log = get_run_logger()
        found = self._manifests()
        own = matching_checkpoints(found, self._flow_run_id, self._fingerprint)
        if strange := len(found) - len(own):
            log.warning("%d checkpoints under this flow run are of another training and are not used", strange)
        self._known = {manifest.epoch: manifest for manifest in own}
        files: dict[int, Path | None] = {}
        for manifest in own:
            files[manifest.epoch] = weights = self._download(manifest, folder)
            if weights is None:
                del self._known[manifest.epoch]
                continue
            best = self._known.get(manifest.best)
            if best is not None and best.epoch not in files:
                files[best.epoch] = self._download(best, folder)
            if files.get(manifest.best) is None:
                log.warning("the weights of epoch %d, the best so far, are lost", manifest.best)
            return RestoredCheckpoint(manifest, weights, files.get(manifest.best))
        return None

    def _manifests(self) -> list[Manifest]:
        found = []
        for key in _RUNS.keys(checkpoint_key(self._flow_run_id)):
            if not key.endswith(f"/{MANIFEST}"):
                continue
            try:
                found.append(Manifest.model_validate_json(_RUNS.get(key) or b""))
            except ValidationError:
                get_run_logger().warning("s3://%s/%s is no manifest and is passed over", Bucket.RUNS, key)
        return found

    def _download(self, manifest: Manifest, folder: Path) -> Path | None:
        """The file of a checkpoint, or None where it is gone or not what was written."""
        key = self._key(manifest.epoch, WEIGHTS)
        path = folder / "restored" / f"{manifest.epoch:05d}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _RUNS.exists(key):
            get_run_logger().warning("s3://%s/%s is gone: the checkpoint before it is used", Bucket.RUNS, key)
            return None
        _RUNS.download(key, path)
        digest = sha256_of(path)
        if digest == manifest.sha256:
            return path
        get_run_logger().warning(
            "expected s3://%s/%s to have the SHA-256 %s, found %s: it is torn, the checkpoint before it is used",
            *(Bucket.RUNS, key, manifest.sha256, digest),
        )
        path.unlink()
        return None

    def _key(self, epoch: int, name: str) -> str:
        return checkpoint_key(self._flow_run_id, epoch, name)
