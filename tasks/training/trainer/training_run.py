"""One training by Ultralytics, from its start or a checkpoint, with an event for each epoch."""

import csv
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.files import write_atomically
from tasks.training.events import EpochResult, TrainedModel, metric_name
from tasks.training.job import Notice, TrainerEvent, TrainingJob, first_device
from tasks.training.report.worst_images import FOLDER
from tasks.training.trainer.class_name_override import override_class_names, read_class_names
from tasks.training.trainer.evaluation import evaluate_split, to_scores
from tasks.training.trainer.image_cache import cache_images, choose_cache
from tasks.training.trainer.loader_check import explain_lost_data, require_all_loaded
from tasks.training.trainer.pseudo_weight import weigh_pseudo_labels
from tasks.training.trainer.ultralytics_setup import configure_ultralytics, load_model
from tasks.training.trainer.worst_predictions import Mistakes, draw_worst, find_mistakes
from tasks.weights.loader import WeightsError, strip_optimizer
from tasks.weights.process import exit_when_process_ends

EmitEvent = Callable[[TrainerEvent], None]
LOG = logging.getLogger(__name__)
RUN_FOLDER = "training"  # Ultralytics writes there, below the folder of the job


def train(job: TrainingJob, emit: EmitEvent, owners: Sequence[int]) -> None:
    """Do a training job; emits each finished epoch, those of earlier attempts first, and at the end the model."""
    if job.checkpoint is None:
        model = load_model(job.model, job.task)
        _require_image_size(model, job.arguments)
        start: dict[str, Any] = {}
    else:
        model, start = _restore_checkpoint(job, job.checkpoint, emit)
    if job.finished:
        emit(_evaluate_best(job, model))
        return
    override_class_names(model, read_class_names(job.data))
    UltralyticsCallbacks(job, emit, owners).add_to(model)
    arguments = dict(job.arguments)
    if job.checkpoint is not None:  # Ultralytics takes the others from the checkpoint of another worker
        arguments = {name: arguments.get(name) for name in ("batch", "device", "workers")}
    from tasks.training.trainer.partial_labels import choose_trainer  # imports Ultralytics

    trainer = weigh_pseudo_labels(model, choose_trainer(model, job.data), job.data, job.pseudo_weight)
    choice = choose_cache(job)
    emit(Notice(text=f"training.cache: {choice.why}"))
    if choice.is_kept:
        trainer = cache_images(model, trainer)
    with explain_lost_data(job.data, job.task):
        model.train(trainer, data=str(job.data), save_dir=str(job.folder / RUN_FOLDER), **start, **arguments)


def _require_image_size(model: Any, arguments: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Ultralytics would take the next size that its strides divide, and the version would say another one."""
    stride, size = int(model.model.stride.max()), arguments.get("imgsz", 0)
    if size % stride:
        raise WeightsError(
            f"Expected training.imgsz to be a multiple of {stride}, the largest stride of this model; found {size}. "
            f"Set {size - size % stride} or {size - size % stride + stride}."
        )


def _restore_checkpoint(job: TrainingJob, checkpoint: Path, emit: EmitEvent) -> tuple[Any, dict[str, Any]]:
    """Load the model of a checkpoint, put its files where Ultralytics expects them, and emit its epochs again."""
    weights = job.folder / RUN_FOLDER / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    last = Path(shutil.copy(checkpoint, weights / "last.pt"))
    if job.best is not None:
        shutil.copy(job.best, weights / "best.pt")
    model = load_model(str(last), job.task)
    columns = {name.strip(): values for name, values in model.ckpt["train_results"].items()}
    history = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    with (weights.parent / "results.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(history)
    of, batch = (int(model.ckpt["train_args"][name]) for name in ("epochs", "batch"))
    ended = 0.0
    for row in history:
        number, seconds = int(row.pop("epoch")), float(row.pop("time"))
        took = seconds - ended if seconds > ended else seconds  # each attempt counts from 0
        ended = seconds
        metrics = {metric_name(name): float(value) for name, value in row.items()}
        emit(EpochResult(number=number, total_epochs=of, metrics=metrics, seconds=took, batch=batch, restored=True))
    return model, {"resume": str(last)}


class UltralyticsCallbacks:
    """Callbacks of a training; with several GPUs each process has a copy, and the first one emits."""

    def __init__(self, job: TrainingJob, emit: EmitEvent, owners: Sequence[int] = ()) -> None:
        self.job = job
        self.best = job.best_epoch
        self._emit = emit
        self._owners = owners
        self._checkpoint: Path | None = None
        self._best_checkpoint: Path | None = None
        self._trained_epoch = -1
        self._mistakes: list[Mistakes] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle in the process of another GPU, which is not set up yet."""
        configure_ultralytics()
        self.__dict__.update(state)

    def add_to(self, model: Any) -> None:  # noqa: ANN401 - ultralytics ships no types
        """Register these methods with a model."""
        for callback in (
            self.on_pretrain_routine_end,
            self.on_train_epoch_end,
            self.on_model_save,
            self.on_fit_epoch_end,
            self.on_val_batch_end,
            self.on_train_end,
        ):
            model.add_callback(callback.__name__, callback)

    def on_pretrain_routine_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Refuse a data set of which Ultralytics lost a part."""
        for loader, split in ((trainer.train_loader, "train"), (trainer.test_loader, "val")):
            require_all_loaded(loader.dataset, self.job.data, self.job.task, split)
        if trainer.world_size > 1:  # the parent of each process is a launcher, which has no owner
            exit_when_process_ends(*self._owners)
        if trainer.resume and self.job.best is None:
            trainer.best_fitness = None  # the best weights are lost: those of a later epoch replace them

    def on_train_epoch_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Note that this epoch was trained: `on_fit_epoch_end` follows a mere evaluation, too."""
        self._trained_epoch = trainer.epoch

    def on_model_save(self, trainer: Any) -> None:  # noqa: ANN401
        """Copy `last.pt` to a name of its own: Ultralytics overwrites it after the next epoch."""
        number = trainer.epoch + 1
        if trainer.best_fitness == trainer.fitness:
            self.best = number
        folder = self.job.folder / "checkpoints"
        older = set(folder.glob("*.pt"))
        self._checkpoint = folder / f"{number:05d}.pt"
        with write_atomically(self._checkpoint) as unfinished:
            shutil.copyfile(trainer.last, unfinished)
        if self.best == number:
            self._best_checkpoint = folder / f"best-{number:05d}.pt"
            self._best_checkpoint.hardlink_to(self._checkpoint)
        for path in older - {self._best_checkpoint}:  # a slow uploader loses them: a disk is finite
            path.unlink(missing_ok=True)

    def on_fit_epoch_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Emit a finished epoch; the evaluation of the best weights is none."""
        if not _is_first_process() or trainer.epoch != self._trained_epoch:
            return
        values: Mapping[str, float] = {**trainer.label_loss_items(trainer.tloss), **trainer.metrics, **trainer.lr}
        self._trained_epoch = -1
        self._emit(
            EpochResult(
                number=trainer.epoch + 1,
                total_epochs=trainer.epochs,
                metrics={metric_name(name): float(value) for name, value in values.items()},
                seconds=trainer.epoch_time,
                batch=trainer.batch_size,
                checkpoint=self._checkpoint,
                best=self.best,
                best_checkpoint=self._best_checkpoint,
                is_last=bool(trainer.stop),
            )
        )

    def on_val_batch_end(self, validator: Any) -> None:  # noqa: ANN401
        """Find the mistakes of the best weights, at the last batch of their evaluation."""
        if not validator.training and validator.batch_i + 1 == len(validator.dataloader):
            self._mistakes = _or_none(lambda: find_mistakes(validator, self.job.task))

    def on_train_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Draw the worst images and emit the model."""
        weights = trainer.best if trainer.best.exists() else trainer.last
        if _is_first_process():
            self.draw_worst(trainer.validator, weights, trainer.save_dir)
        names = read_class_names(self.job.data)
        self._emit(
            TrainedModel(
                weights=weights,
                folder=trainer.save_dir,
                task=self.job.task,
                class_names=names,
                scores=to_scores(trainer.validator, self.job.task, names),
                epochs=trainer.epoch + 1,
                best_epoch=self.best,
                batch=trainer.batch_size,
            )
        )

    def draw_worst(self, validator: Any, weights: Path, folder: Path) -> None:  # noqa: ANN401
        """Draw the images with the most mistakes, unless plots are off."""
        if not self.job.arguments.get("plots", True):
            return
        job = self.job.task, first_device(self.job.arguments.get("device"))
        _or_none(lambda: draw_worst(self._mistakes, validator, weights, job, folder / FOLDER))


def _is_first_process() -> bool:
    from ultralytics.utils import RANK  # of the process in which the callback runs

    return RANK in {-1, 0}


def _or_none(make: Callable[[], list[Mistakes] | None]) -> list[Mistakes]:
    """The result of `make`, for the report; a fault in it does not fail the training."""
    try:
        return make() or []
    except Exception:
        LOG.warning("the report of this training will be without its worst pictures", exc_info=True)
        return []


def _evaluate_best(job: TrainingJob, model: Any) -> TrainedModel:  # noqa: ANN401
    """Do what Ultralytics does after the last epoch, with which an earlier attempt ended."""
    from ultralytics.utils.plotting import plot_results

    folder = job.folder / RUN_FOLDER
    epochs = int(model.ckpt["epoch"]) + 1
    weights = folder / "weights" / ("best.pt" if job.best is not None else "last.pt")
    strip_optimizer(weights)
    best = load_model(str(weights), job.task)
    options = {name: job.arguments[name] for name in ("imgsz", "batch", "workers")}
    device = first_device(job.arguments.get("device"))
    callbacks = UltralyticsCallbacks(job, lambda _: None)
    best.add_callback("on_val_batch_end", callbacks.on_val_batch_end)
    best.add_callback("on_val_end", lambda validator: callbacks.draw_worst(validator, weights, folder))
    scores = evaluate_split(job.data, best, job.task, save_dir=str(folder), device=device, **options)
    plot_results(file=str(folder / "results.csv"))
    return TrainedModel(
        weights=weights,
        folder=folder,
        task=job.task,
        class_names=read_class_names(job.data),
        scores=scores,
        epochs=epochs,
        best_epoch=job.best_epoch if job.best is not None else epochs,
        batch=int(options["batch"]),
    )
