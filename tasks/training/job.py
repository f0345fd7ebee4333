"""Jobs of the training process and the events that it reports, as lines of JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tasks.training.events import EpochResult, TrainedModel
from tasks.vision.metrics import Scores
from tasks.vision.views import View


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Train `model` (a file, or the name of an architecture) on `data`, under `folder`.

    `arguments` are Ultralytics' own. With a `checkpoint` the training continues after its epoch; `best` is the file of
    the best epoch so far, number `best_epoch`. A `finished` one is only evaluated. `pseudo_weight`, 0 to 1, is that of
    images whose labels a model has made. `cache` is that of `TrainingParams`.
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
    pseudo_weight: float = 1.0
    cache: str = "none"


@dataclass(frozen=True, kw_only=True)
class EvaluationTarget:
    """Weights to evaluate at their image size (pixels) on the split `val` of `data`."""

    weights: Path
    data: Path
    image_size: int


@dataclass(frozen=True, kw_only=True)
class EvaluationJob:
    """Evaluate models of one task, each on its data; the events are their Scores, in order."""

    subjects: tuple[EvaluationTarget, ...]
    task: str
    folder: Path
    batch: int
    device: str | None = None
    workers: int = 2


@dataclass(frozen=True, kw_only=True)
class ReferencePredictionJob:
    """Write to `reference` the detections of `weights` in `sample` (a zip of `tasks.dataset.validation_sample`).

    Each of `served` holds those of the served model in one precision. The events are the Scores of the weights, then of
    each of these.
    """

    weights: Path
    sample: Path
    served: tuple[Path, ...]
    reference: Path
    image_size: int
    task: str
    folder: Path
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionJob:
    """Write the detections of `weights` in image files: chunk n of these to file n of `predictions`.

    Each image is predicted in all `views`, whose detections follow each other; with other views than the plain one
    they have boxes alone. `embeddings`, if any, are a file a chunk for the features of its plain images. A chunk whose
    files are there stays as it is. The events are a PredictedChunk for each that was written.
    """

    weights: Path
    task: str
    image_size: int
    chunks: tuple[tuple[Path, ...], ...]
    predictions: tuple[Path, ...]
    folder: Path
    device: str | None = None
    views: tuple[View, ...] = (View.PLAIN,)
    embeddings: tuple[Path, ...] = ()

    def with_embeddings(self) -> "PredictionJob":
        """Return the same job, which also writes the embeddings of each chunk, beside its predictions."""
        return replace(self, embeddings=tuple(path.with_suffix(".npy") for path in self.predictions))

    def files(self, number: int) -> tuple[Path, ...]:
        """Return the files of chunk `number`."""
        return (self.predictions[number], *self.embeddings[number : number + 1])

    def is_done(self, number: int) -> bool:
        """Return whether chunk `number` is written."""
        return all(path.exists() for path in self.files(number))


@dataclass(frozen=True, kw_only=True)
class PredictedChunk:
    """Chunk `number`, from 0, of a PredictionJob is written; it has so many images."""

    number: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A sentence for the log of the run."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job ended without a result; `output` is the end of what Ultralytics printed."""

    reason: str
    memory: bool = False
    killed: bool = False
    output: str = ""


Job = TrainingJob | EvaluationJob | ReferencePredictionJob | PredictionJob
TrainerEvent = EpochResult | TrainedModel | Scores | PredictedChunk | Notice | Failure


def first_device(device: str | None) -> str | None:
    """Return the device to evaluate on: the first of several, such as `0,1`."""
    return device.partition(",")[0] if device else device


_KINDS: dict[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (
        *(TrainingJob, EvaluationJob, ReferencePredictionJob, PredictionJob),
        *(EpochResult, TrainedModel, Scores, PredictedChunk, Notice, Failure),
    )
}


def to_json_line(value: Job | TrainerEvent) -> str:
    """Return a value as one line of JSON, without a line break."""
    kind = type(value).__name__
    return json.dumps({"kind": kind, "value": _KINDS[kind].dump_python(value, mode="json")})


def from_json_line(line: str) -> Any:  # noqa: ANN401 - whichever of the kinds was written
    """Return the value that `to_json_line` wrote.

    Raises:
        ValueError: The line is something else.
    """
    try:
        message = json.loads(line)
        return _KINDS[message["kind"]].validate_python(message["value"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected a message of the training process, found {line[:200]!r}") from error


def append_event(events: Path, event: TrainerEvent) -> None:
    """Append an event to a file as one line, in one write: a reader sees half of it only for a moment."""
    with events.open("a", encoding="utf-8") as file:
        file.write(to_json_line(event) + "\n")
