"""What the training process is asked, and what it tells: values that travel as lines of JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tasks.training.events import EpochResult, TrainedModel
from tasks.vision.metrics import Scores


@dataclass(frozen=True)
class TrainingJob:
    """Train `model` (a file, or the name of an architecture) on `data`, under `folder`.

    `arguments` are Ultralytics' own. With a `checkpoint` the training goes on after its epoch; `best` is then the file
    of the best epoch so far, which has the number `best_epoch`, and a `finished` one is only evaluated.
    """

    model: str
    task: str
    data: Path
    folder: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    best: Path | None = None
    best_epoch: int = 0
    finished: bool = False


@dataclass(frozen=True)
class EvaluationTarget:
    """Weights to evaluate at their image size (pixels) on the split `val` of `data`."""

    weights: Path
    data: Path
    image_size: int


@dataclass(frozen=True)
class EvaluationJob:
    """Evaluate models of one task, each on its data; a Scores is told for each, in order."""

    subjects: tuple[EvaluationTarget, ...]
    task: str
    folder: Path
    batch: int
    device: str | None = None
    workers: int = 2


@dataclass(frozen=True)
class ReferencePredictionJob:
    """Keep in `reference` what `weights` find in the images of `sample` (a zip, see `tasks.dataset.validation_sample`).

    `served` holds what the served model found in them; a Scores is told for the weights, then for the served model.
    `image_size` is in pixels.
    """

    weights: Path
    sample: Path
    served: Path
    reference: Path
    image_size: int
    task: str
    folder: Path
    device: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why a job ended without a result: there was too little `memory`, its process was `killed`, or else.

    `output` is the end of what Ultralytics printed.
    """

    reason: str
    memory: bool = False
    killed: bool = False
    output: str = ""


Job = TrainingJob | EvaluationJob | ReferencePredictionJob
TrainerEvent = EpochResult | TrainedModel | Scores | Failure


def first_device(device: str | None) -> str | None:
    """The one to evaluate on where a training has several, as in `0,1`."""
    return device.partition(",")[0] if device else device


_KINDS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (TrainingJob, EvaluationJob, ReferencePredictionJob, EpochResult, TrainedModel, Scores, Failure)
}


def to_json_line(value: Job | TrainerEvent) -> str:
    """One line of JSON, without its end."""
    kind = type(value).__name__
    return json.dumps({"kind": kind, "value": _KINDS[kind].dump_python(value, mode="json")})


def from_json_line(line: str) -> Any:  # noqa: ANN401 - whichever of the kinds was written
    """Read what `to_json_line` wrote; raises ValueError for anything else."""
    try:
        message = json.loads(line)
        return _KINDS[message["kind"]].validate_python(message["value"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a message of the training process, found {line[:200]!r}") from error
