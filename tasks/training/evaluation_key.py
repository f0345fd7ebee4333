"""What an evaluation depends on, as one hash: with the same one it gives the same scores."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

from tasks.files import sha256_of
from tasks.training.job import EvaluationJob, EvaluationTarget

RULES_VERSION = 1  # of how a model is evaluated here
_LIBRARIES = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python-headless")
_GPUS = Path("/proc/driver/nvidia/gpus")


def evaluation_key(target: EvaluationTarget, job: EvaluationJob) -> str:
    """Return a hash, in hex, of weights, images, labels and class names, and of all that the scores may depend on.

    All files of the data are read, so another image or label is another key. So is another machine: scores of another
    processor differ in their last digits.

    Raises:
        OSError: A file cannot be read.
    """
    facts = {
        "rules": RULES_VERSION,
        "weights": sha256_of(target.weights),
        "data": _digest_data(target.data),
        "image_size": target.image_size,
        "task": job.task,
        "batch": job.batch,
        "device": job.device,
        "machine": [platform.node(), platform.machine(), *_gpus()],
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _digest_data(data: Path) -> str:
    """Return the hash of each file of a dataset and of its name; caches of labels are none of it."""
    folder = data if data.is_dir() else data.parent
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".cache"):
        digest.update(json.dumps([path.relative_to(folder).as_posix(), sha256_of(path)]).encode())
    return digest.hexdigest()


def _gpus() -> list[str]:
    return sorted(path.read_text() for path in _GPUS.glob("*/information"))
