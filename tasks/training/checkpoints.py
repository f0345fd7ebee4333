"""Which checkpoints of a training can be trusted, and which are worth keeping."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.parameters import Parameters, TrainingParams

MANIFEST, WEIGHTS = "checkpoint.json", "last.pt"
_NEWEST = 2  # should one of them be torn, there is the one before it


class Manifest(Parameters):
    """What lies beside the file of a checkpoint and is written after it.

    `epoch` is the last finished one, counted from 1, `best` the epoch with the best weights so far, `last` says that
    none follows. `sha256` (hex) and `size` (bytes) are of the file. `fingerprint` says which training it belongs to.
    """

    flow_run_id: str
    fingerprint: str
    epoch: int
    best: int
    last: bool
    batch: int
    sha256: str
    size: int


@dataclass(frozen=True)
class RestoredCheckpoint:
    """A checkpoint on this disk: its file, and that of the best epoch where it could be had."""

    manifest: Manifest
    weights: Path
    best: Path | None


def fingerprint(plan_digest: str, base_model: str, training: TrainingParams) -> str:
    """What tells one training from another: what is trained on what; not how fast, or in how much memory."""
    chosen = training.model_dump(exclude={"batch", "device", "workers", "rehearse"})
    return hashlib.sha256(json.dumps([plan_digest, base_model, chosen], sort_keys=True).encode()).hexdigest()


def checkpoint_key(flow_run_id: str, epoch: int | None = None, name: str = "") -> str:
    """Key in bucket `runs` of a file of one checkpoint, or what all keys of a flow run's checkpoints begin with."""
    return f"{flow_run_id}/checkpoints/" + ("" if epoch is None else f"{epoch:05d}/{name}")


def matching_checkpoints(manifests: Iterable[Manifest], flow_run_id: str, fingerprint: str) -> list[Manifest]:
    """Return the checkpoints of this very training, newest first."""
    own = [found for found in manifests if (found.flow_run_id, found.fingerprint) == (flow_run_id, fingerprint)]
    return sorted(own, key=lambda found: found.epoch, reverse=True)


def epochs_to_retain(own: Iterable[Manifest]) -> set[int]:
    """Return the epochs whose files a resume may need: the newest ones, and the best that each of those knows."""
    newest = sorted(own, key=lambda found: found.epoch, reverse=True)[:_NEWEST]
    return {found.epoch for found in newest} | {found.best for found in newest}
