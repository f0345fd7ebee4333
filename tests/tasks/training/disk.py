"""Checkpoints of a training in a folder."""

from pathlib import Path

from tasks.training.checkpoints import Manifest, RestoredCheckpoint
from tasks.training.events import EpochResult


class Disk:
    """Keeps checkpoints in a folder, as the object store does, and records the epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reported: list[EpochResult] = []
        self.kept: list[EpochResult] = []
        self.restored: list[int] = []

    def __call__(self, epoch: EpochResult) -> None:
        self.reported.append(epoch)

    def keep(self, epoch: EpochResult) -> None:
        for number, path in ((epoch.best, epoch.best_checkpoint), (epoch.number, epoch.checkpoint)):
            if path is not None and path.is_file():
                self.file(number).write_bytes(path.read_bytes())
        self.kept.append(epoch)

    def file(self, epoch: int) -> Path:
        return self.folder / f"{epoch}.pt"

    def restore(self, folder: Path) -> RestoredCheckpoint | None:  # noqa: ARG002
        self.restored.append(self.kept[-1].number if self.kept else 0)
        if not self.kept:
            return None
        newest = self.kept[-1]
        manifest = Manifest(
            flow_run_id="run",
            fingerprint="this",
            epoch=newest.number,
            best=newest.best,
            last=newest.is_last,
            batch=newest.batch,
            sha256="",
            size=0,
        )
        return RestoredCheckpoint(manifest=manifest, weights=self.file(newest.number), best=self.file(newest.best))

    @property
    def trained(self) -> list[int]:
        return [epoch.number for epoch in self.reported if not epoch.restored]
