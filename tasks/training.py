"""Steps of Ultralytics: which model to begin from, and the training itself."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.core.epochs import Epoch, TrainedModel, metric_name
from tasks.core.errors import StudioError
from tasks.core.parameters import TrainingParams

ARCHITECTURE = re.compile(r"yolo(v?\d{1,2})[nsmlxtbce]?(-(seg|cls|pose|obb|p2|p6))*\.yaml")
OFFICIAL_WEIGHTS = re.compile(r"yolo(v?\d{1,2})[nsmlxtbce]u?(-(seg|cls|pose|obb))?\.pt")

EpochListener = Callable[[Epoch], None]


class TrainingError(StudioError):
    """The training cannot begin, or broke off."""


def ultralytics_model(weights: str) -> Any:  # noqa: ANN401 - ultralytics ships no types
    """A `YOLO` object, with the integrations off that would log beside us, for this process only."""
    from ultralytics.utils import SETTINGS

    off = dict.fromkeys(("sync", "mlflow", "clearml", "comet", "dvc", "raytune", "wandb", "tensorboard"), False)
    dict.update(SETTINGS, off)  # past its own update(), which would rewrite the user's settings file
    from ultralytics import YOLO  # type: ignore[attr-defined]

    return YOLO(weights)


@task(cache_policy=NO_CACHE)
def prepare_base_model(base_model: str, uploaded: Path | None, folder: Path) -> str:
    """What to begin from: uploaded weights, an architecture, or official weights, which are downloaded into `folder`.

    It is loaded once, so that what cannot be trained from fails here. Raises TrainingError for any other name: weights
    are pickles, so none is loaded from a place we do not know.
    """
    if uploaded is None and not (ARCHITECTURE.fullmatch(base_model) or OFFICIAL_WEIGHTS.fullmatch(base_model)):
        raise TrainingError(
            f"Expected base_model to be an object in bucket 'base-models', an Ultralytics architecture such as "
            f"'yolo11n.yaml', or official weights such as 'yolo11n.pt'; found {base_model!r}, which is none of them. "
            f"Upload weights that you trust to bucket 'base-models' and name their key."
        )
    start = str(uploaded or (folder / base_model if base_model.endswith(".pt") else base_model))
    with explained(base_model):
        task = ultralytics_model(start).task
    if task != "detect":
        raise TrainingError(
            f"Expected a detection model, found {base_model!r} for the task {task!r}. Name one such as 'yolo11n.yaml'."
        )
    return start


@task(cache_policy=NO_CACHE)
def train_detector(
    dataset: Path,
    base_model: str,
    training: TrainingParams,
    folder: Path,
    listeners: Sequence[EpochListener] = (),
) -> TrainedModel:
    """Train on the merged dataset (`data.yaml`) from what `prepare_base_model` gave.

    Calls each listener after every epoch; one that fails is logged and never stops the training.
    Raises TrainingError when Ultralytics refuses the model or the data.
    """
    with explained(base_model):
        model = ultralytics_model(base_model)
        listen(model, listeners)
        model.train(
            data=str(dataset),
            project=str(folder),
            name="training",
            exist_ok=True,
            verbose=False,
            **training.model_dump(exclude_none=True),
        )
        return trained(model)


@contextlib.contextmanager
def explained(base_model: str) -> Iterator[None]:
    """Turn what Ultralytics raises about the model, the data or the device into a TrainingError."""
    try:
        yield
    except Exception as error:  # Ultralytics raises whatever torch, yaml or pickle raise
        reason = str(error).strip() or "no reason given"
        advice = ""
        if OFFICIAL_WEIGHTS.fullmatch(base_model) and isinstance(error, OSError):
            advice = " It could not be downloaded: put the file into bucket 'base-models', or train from a .yaml."
        raise TrainingError(
            f"Training from {base_model!r} stopped: {type(error).__name__}: {reason}{advice}"
        ) from error


def listen(model: Any, listeners: Sequence[EpochListener]) -> None:  # noqa: ANN401
    """Tell the listeners of every finished epoch, once."""
    log = get_run_logger()
    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    trained: set[int] = set()

    def note(trainer: Any) -> None:  # noqa: ANN401
        trained.add(trainer.epoch)

    def tell(trainer: Any) -> None:  # noqa: ANN401
        if trainer.epoch not in trained:  # Ultralytics calls once more after the last epoch, for the best weights
            return
        values = {**trainer.label_loss_items(trainer.tloss), **trainer.metrics, **trainer.lr}
        metrics = {metric_name(name): float(value) for name, value in values.items()}
        for listener in listeners:
            try:
                listener(Epoch(trainer.epoch + 1, trainer.epochs, metrics))
            except Exception:
                log.warning("an epoch could not be reported, training goes on", exc_info=True)

    model.add_callback("on_train_epoch_end", note)
    model.add_callback("on_fit_epoch_end", tell)


def trained(model: Any) -> TrainedModel:  # noqa: ANN401
    """What the trainer leaves: the best weights and their metrics on the validation split."""
    trainer = model.trainer
    metrics = trainer.validator.metrics
    names = trainer.data["names"]
    shown = [names[int(index)] for index in metrics.box.ap_class_index]
    return TrainedModel(
        weights=str(trainer.best),
        task=model.task,
        class_names=tuple(names[index] for index in sorted(names)),
        metrics={metric_name(name): float(value) for name, value in metrics.results_dict.items()},
        class_map50=dict(zip(shown, (float(value) for value in metrics.box.ap50), strict=True)),
    )
