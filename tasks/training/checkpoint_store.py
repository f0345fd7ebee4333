"""Checkpoints of a training in bucket `runs`, under the id of its flow run."""

from dataclasses import replace
from pathlib import Path

from prefect import get_run_logger
from pydantic import ValidationError

from tasks.files import sha256_of
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
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

_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class CheckpointStore:
    """Keeps the checkpoint of each finished epoch, and restores the newest sound one with this `fingerprint`."""

    def __init__(self, flow_run_id: str, fingerprint: str) -> None:
        self._flow_run_id = flow_run_id
        self._fingerprint = fingerprint
        self._known: dict[int, Manifest] = {}

    def keep(self, epoch: EpochResult) -> None:
        """Upload the epoch's checkpoint and then its manifest; remove those that no resume needs any longer.

        A best epoch that was not uploaded yet comes first. Does nothing if a later epoch has replaced the file.
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
        """Return whether this training has a checkpoint."""
        return bool(matching_checkpoints(self._manifests(), self._flow_run_id, self._fingerprint))

    def restore(self, folder: Path) -> RestoredCheckpoint | None:
        """Download the newest sound checkpoint; None if there is none. Torn and foreign ones are logged."""
        log = get_run_logger()
        manifests = self._manifests()
        own = matching_checkpoints(manifests, self._flow_run_id, self._fingerprint)
        if foreign := len(manifests) - len(own):
            log.warning("%d checkpoints under this flow run are of another training and are not used", foreign)
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
            return RestoredCheckpoint(manifest=manifest, weights=weights, best=files.get(manifest.best))
        return None

    def _manifests(self) -> list[Manifest]:
        manifests = []
        for key in _RUNS.keys(checkpoint_key(self._flow_run_id)):
            if not key.endswith(f"/{MANIFEST}"):
                continue
            try:
                manifests.append(Manifest.model_validate_json(_RUNS.get(key) or b""))
            except ValidationError:
                get_run_logger().warning("%s is no manifest and is passed over", _RUNS.uri(key))
        return manifests

    def _download(self, manifest: Manifest, folder: Path) -> Path | None:
        """The file of a checkpoint; None if it is gone or torn."""
        key = self._key(manifest.epoch, WEIGHTS)
        path = folder / "restored" / f"{manifest.epoch:05d}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _RUNS.exists(key):
            get_run_logger().warning("%s is gone: the checkpoint before it is used", _RUNS.uri(key))
            return None
        _RUNS.download(key, path)
        digest = sha256_of(path)
        if digest == manifest.sha256:
            return path
        get_run_logger().warning(
            "expected %s to have the SHA-256 %s, found %s: it is torn, the checkpoint before it is used",
            _RUNS.uri(key),
            manifest.sha256,
            digest,
        )
        path.unlink()
        return None

    def _key(self, epoch: int, name: str) -> str:
        return checkpoint_key(self._flow_run_id, epoch, name)
