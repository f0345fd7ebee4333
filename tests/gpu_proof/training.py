"""Trainings by the real training process, started as train-model starts it."""

import logging
import math
import os
import re
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tasks.training import attempts
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import TrainingJob
from tests.gpu_proof.drawn import dataset
from tests.gpu_proof.setup import Figure, Outcome, Setup, SkippedError, require
from tests.tasks.training.disk import Disk

LOG = logging.getLogger(__name__)
ARCHITECTURE = "yolo11n.yaml"
PROCESSES = 2
_MAP = "metrics/mAP50-95"


def train(setup: Setup) -> Outcome:
    """From the architecture to weights: every epoch once, losses finite, checkpoints, mixed precision."""
    job = _job(setup, "training")
    disk = Disk(job.folder)
    model = attempts.train(job, disk, LOG, [disk])
    _require_whole(job, disk, model)
    arithmetic = _mixed_precision(job.folder)
    require(
        not setup.is_gpu or "failed" not in arithmetic, f"expected mixed precision to be right, found: {arithmetic}"
    )
    seconds = _seconds(disk.reported)
    figures = [Figure(what="images of a training epoch", value=setup.scale.train / seconds, unit="images/s")]
    left = {
        "weights": str(model.weights),
        "mAP50": model.scores.metrics["mAP50"],
        "epochs": [dict(epoch.metrics) for epoch in disk.reported],
    }
    sentence = (
        f"{model.epochs} epochs of {setup.scale.train} images at {setup.scale.image_size} px, batch {model.batch}, "
        f"{seconds:.2f} s each; mAP50 {model.scores.metrics['mAP50']:.3f}; mixed precision: {arithmetic}"
    )
    return Outcome(sentence=sentence, figures=figures, left=left)


def resume(setup: Setup) -> Outcome:
    """The same training, whose process is killed in the middle: it goes on after its last epoch."""
    job = _job(setup, "resumed")
    disk = Disk(job.folder)
    half = setup.scale.epochs // 2

    def kill(epoch: EpochResult) -> None:
        if epoch.number == half and not epoch.restored:
            for process in psutil.Process().children():
                process.kill()

    model = attempts.train(job, disk, LOG, [disk, kill])
    _require_whole(job, disk, model)
    restored = [epoch for epoch in disk.restored if epoch]
    require(bool(restored) and len(disk.restored) == 2, f"expected one resume, found checkpoints {disk.restored}")
    straight = setup.result("train").get("left", {}).get("epochs", [])
    if not straight:
        return Outcome(sentence=f"killed in epoch {half + 1}, went on after epoch {restored[0]} of {model.epochs}")
    before = _largest_difference(disk.reported[:half], straight[:half])
    require(setup.is_gpu or before == 0, f"expected the same epochs until the kill, found a difference of {before:g}")
    change = disk.reported[-1].metrics[_MAP] - straight[-1][_MAP]
    sentence = (
        f"killed in epoch {half + 1}, went on after epoch {restored[0]} of {model.epochs}, each once; until the kill "
        f"metrics differ by at most {before:.2g} from those of the training that nobody killed, at the end mAP50-95 by "
        f"{change:+.3f}"
    )
    return Outcome(sentence=sentence)


def memory(setup: Setup) -> Outcome:
    """A batch that is far too large for the memory that is left: it is halved until it fits."""
    batch, image_size, room = setup.scale.crowded
    job = _job(setup, "crowded", epochs=1, batch=batch, imgsz=image_size)
    disk = Disk(job.folder)
    held = _hold_memory(room) if setup.is_gpu else _limit_memory(room)
    model = attempts.train(job, disk, LOG, [disk])
    require(1 <= model.batch < batch, f"expected a batch below {batch}, found {model.batch}: the memory was enough")
    del held
    starts = len(list(job.folder.glob("job-*")))
    return Outcome(
        sentence=f"with {room / 2**30:.1f} GiB left, batch {batch} was halved to {model.batch}, in {starts} starts"
    )


def several_processes(setup: Setup) -> Outcome:
    """Two processes train together: on two GPUs over NCCL, on one GPU over Gloo."""
    if not setup.is_gpu:
        raise SkippedError("Ultralytics trains with one process on a processor")
    device, way = ("0,1", "two GPUs, NCCL") if setup.gpus >= PROCESSES else ("0,0", "one GPU, Gloo")
    if setup.gpus < PROCESSES:
        beside = str(Path(__file__).with_name("one_gpu"))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (beside, os.environ.get("PYTHONPATH"))))
    job = _job(setup, "several", epochs=3, device=device)
    disk = Disk(job.folder)
    model = attempts.train(job, disk, LOG, [disk])
    _require_whole(job, disk, model)
    seconds = _seconds(disk.reported)
    return Outcome(
        sentence=f"{PROCESSES} processes ({way}), {model.epochs} epochs, each told once, {seconds:.2f} s each",
        figures=[Figure(what=f"images of a training epoch, {way}", value=setup.scale.train / seconds, unit="images/s")],
    )


def _job(setup: Setup, name: str, **changes: Any) -> TrainingJob:
    scale = setup.scale
    folder = setup.folder / name
    folder.mkdir()
    arguments = {
        "epochs": scale.epochs,
        "imgsz": scale.image_size,
        "batch": scale.batch,
        "workers": scale.workers,
        "device": setup.device,
        "seed": 0,
        "patience": 0,
        "plots": False,  # matplotlib is not carried
        "verbose": False,
    }
    return TrainingJob(
        model=ARCHITECTURE, task="detect", data=dataset(setup), folder=folder, arguments=arguments | changes
    )


def _require_whole(job: TrainingJob, disk: Disk, model: TrainedModel) -> None:
    wanted = [*range(1, job.arguments["epochs"] + 1)]
    require(disk.trained == wanted, f"expected the epochs {wanted}, each once, found {disk.trained}")
    require(model.weights.is_file(), f"expected weights in {model.weights}, found none")
    require(bool(disk.kept), "expected checkpoints, found none")
    for epoch in disk.reported:
        losses = {name: value for name, value in epoch.metrics.items() if "loss" in name}
        require(bool(losses), f"expected losses of epoch {epoch.number}, found {sorted(epoch.metrics)}")
        require(
            all(map(math.isfinite, losses.values())), f"expected finite losses in epoch {epoch.number}, found {losses}"
        )


def _mixed_precision(folder: Path) -> str:
    """What Ultralytics printed last about it."""
    printed = "".join(log.read_text(errors="replace") for log in sorted(folder.glob("job-*/output.log")))
    lines = re.findall(r"AMP: ([^.!\n]+)", re.sub(r"\x1b\[[0-9;]*m", "", printed))
    return lines[-1].strip() if lines else "off, as always on a processor"


def _seconds(epochs: Sequence[EpochResult]) -> float:
    """The median of an epoch, without the first, in which much is made ready."""
    return median(epoch.seconds for epoch in epochs[1:] or epochs)


def _largest_difference(epochs: Sequence[EpochResult], others: Sequence[dict[str, float]]) -> float:
    return max(
        abs(value - other[name])
        for epoch, other in zip(epochs, others, strict=True)
        for name, value in epoch.metrics.items()
    )


def _hold_memory(room: int) -> object:
    """Take the memory of the GPU but for `room` bytes."""
    import torch

    torch.zeros(1, device="cuda")
    deadline = time.monotonic() + 10
    while True:  # a process that has just ended may hold some yet
        free, _ = torch.cuda.mem_get_info()
        try:
            return torch.empty(max(free - room, 0), dtype=torch.uint8, device="cuda")
        except torch.cuda.OutOfMemoryError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _limit_memory(room: int) -> object:
    """Have the allocator refuse more than `room` bytes, as a full GPU does, to this process and those it starts."""
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    return None
