"""Which checkpoints of a training can be trusted, and which are kept."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.parameters import Parameters, TrainingParams

MANIFEST = "checkpoint.json"
WEIGHTS = "last.pt"
_NEWEST = 2  # if the last is torn, there is the one before it


class Manifest(Parameters):
    """Written after the file of a checkpoint, beside it; `size` in bytes and `sha256` in hex are of that file.

    `epoch` counts from 1, `best` is the epoch with the best weights so far, `last` says that no epoch follows.
    """

    flow_run_id: str
    fingerprint: str
    epoch: int
    best: int
    last: bool
    batch: int
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class RestoredCheckpoint:
    """A checkpoint on this disk: its file, and that of the best epoch if it is not lost."""

    manifest: Manifest
    weights: Path
    best: Path | None


def fingerprint(plan_digest: str, base_model: str, training: TrainingParams) -> str:
    """Return a digest of model, data and parameters that change the result; speed and memory are not among them."""
    speed = {"batch", "device", "workers", "rehearse", "cache"}
    chosen = {name: value for name, value in training.flat().items() if name not in speed}
    return hashlib.sha256(json.dumps([plan_digest, base_model, chosen], sort_keys=True).encode()).hexdigest()


def checkpoint_key(flow_run_id: str, epoch: int | None = None, name: str = "") -> str:
    """Return the key in bucket `runs` of a file of a checkpoint, or the prefix of all checkpoints of a flow run."""
    return f"{flow_run_id}/checkpoints/" + ("" if epoch is None else f"{epoch:05d}/{name}")


def matching_checkpoints(manifests: Iterable[Manifest], flow_run_id: str, fingerprint: str) -> list[Manifest]:
    """Return the checkpoints of this training, newest first."""
    own = [each for each in manifests if (each.flow_run_id, each.fingerprint) == (flow_run_id, fingerprint)]
    return sorted(own, key=lambda each: each.epoch, reverse=True)


def epochs_to_retain(own: Iterable[Manifest]) -> set[int]:
    """Return the epochs whose files a resume may need: the newest ones, and the best epoch of each of those."""
    newest = sorted(own, key=lambda each: each.epoch, reverse=True)[:_NEWEST]
    return {each.epoch for each in newest} | {each.best for each in newest}
