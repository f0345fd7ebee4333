"""Train, or carry a training on, and tell every epoch."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.training.events import EpochResult, TrainedModel, metric_name
from tasks.training.job import TrainerEvent, TrainingJob, first_device
from tasks.training.report.worst_images import FOLDER
from tasks.training.trainer.class_name_override import override_class_names, read_class_names
from tasks.training.trainer.evaluation import evaluate_split, to_scores
from tasks.training.trainer.loader_check import explain_lost_data, require_all_loaded
from tasks.training.trainer.ultralytics_setup import configure_ultralytics, load_model
from tasks.training.trainer.watchdog import exit_when_process_ends
from tasks.training.trainer.worst_predictions import Mistakes, draw_worst, find_mistakes
from tasks.weights.loader import strip_optimizer

EmitEvent = Callable[[TrainerEvent], None]
LOG = logging.getLogger(__name__)
RUN_FOLDER = "training"  # the folder that Ultralytics writes to, under that of the job


def train(job: TrainingJob, say: EmitEvent, owners: Sequence[int]) -> None:
    """Do a training job; says each finished epoch, those of earlier attempts first, and at the end the model."""
    if job.checkpoint is None:
        model = load_model(job.model, job.task)
        start: dict[str, Any] = {}
    else:
        model, start = _restore_checkpoint(job, job.checkpoint, say)
    if job.finished:
        say(_evaluate_best(job, model, say))
        return
    override_class_names(model, read_class_names(job.data))
    UltralyticsCallbacks(job, say, owners).add_to(model)
    arguments = dict(job.arguments)
    if job.checkpoint is not None:  # Ultralytics takes the others from the checkpoint, where another worker wrote them
        arguments = {name: arguments.get(name) for name in ("batch", "device", "workers")}
    with explain_lost_data(job.data, job.task):
        model.train(data=str(job.data), save_dir=str(job.folder / RUN_FOLDER), **start, **arguments)


def _restore_checkpoint(job: TrainingJob, checkpoint: Path, say: EmitEvent) -> tuple[Any, dict[str, Any]]:
    """The model of a checkpoint, its files where Ultralytics left them, and its epochs told again."""
    weights = job.folder / RUN_FOLDER / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    last = Path(shutil.copy(checkpoint, weights / "last.pt"))
    if job.best is not None:
        shutil.copy(job.best, weights / "best.pt")
    model = load_model(str(last), job.task)
    history = pd.DataFrame(model.ckpt["train_results"])
    history.columns = history.columns.str.strip()
    history.to_csv(weights.parent / "results.csv", index=False)
    of, batch = (int(model.ckpt["train_args"][name]) for name in ("epochs", "batch"))
    seconds = history["time"].diff()
    seconds = seconds.where(seconds > 0, history["time"])  # each attempt began its count anew
    for row, took in zip(history.to_dict("records"), seconds, strict=True):
        number = int(row.pop("epoch"))
        metrics = {metric_name(str(name)): float(value) for name, value in row.items() if name != "time"}
        say(
            EpochResult(
                number=number, total_epochs=of, metrics=metrics, seconds=float(took), batch=batch, restored=True
            )
        )
    return model, {"resume": str(last)}


class UltralyticsCallbacks:
    """What a training says and keeps at Ultralytics' events; DDP sends it to the process of each GPU.

    With several GPUs each process calls these methods, and the first one says.
    """

    def __init__(self, job: TrainingJob, say: EmitEvent, owners: Sequence[int] = ()) -> None:
        self.job = job
        self.best = job.best_epoch
        self._say = say
        self._owners = owners
        self._checkpoint: Path | None = None
        self._best_checkpoint: Path | None = None
        self._trained_epoch = -1
        self._mistakes: list[Mistakes] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come to life in the process of another GPU, which has just begun and is not set up."""
        configure_ultralytics()
        self.__dict__.update(state)

    def add_to(self, model: Any) -> None:  # noqa: ANN401 - ultralytics ships no types
        """Have a model call these methods while it trains."""
        for event in (
            *("on_pretrain_routine_end", "on_train_epoch_end", "on_model_save", "on_fit_epoch_end", "on_train_end"),
            "on_val_batch_end",
        ):
            model.add_callback(event, getattr(self, event))

    def on_pretrain_routine_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Refuse a data set of which Ultralytics left something out."""
        for loader, split in ((trainer.train_loader, "train"), (trainer.test_loader, "val")):
            require_all_loaded(loader.dataset, self.job.data, self.job.task, split)
        if trainer.world_size > 1:  # one of several processes, whose parent is a launcher that knows no owner
            exit_when_process_ends(*self._owners)
        if trainer.resume and self.job.best is None:
            trainer.best_fitness = None  # the best weights are lost: the best of what follows takes their place

    def on_train_epoch_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Note that this epoch was trained, so that what `on_fit_epoch_end` brings is no mere evaluation."""
        self._trained_epoch = trainer.epoch

    def on_model_save(self, trainer: Any) -> None:  # noqa: ANN401
        """Copy `last.pt` to a name of its own: Ultralytics writes into the same file again after the next epoch."""
        number = trainer.epoch + 1
        if trainer.best_fitness == trainer.fitness:
            self.best = number
        folder = self.job.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        older = set(folder.glob("*.pt"))
        partial = Path(shutil.copyfile(trainer.last, folder / "copying"))
        self._checkpoint = partial.rename(folder / f"{number:05d}.pt")
        if self.best == number:
            self._best_checkpoint = folder / f"best-{number:05d}.pt"
            self._best_checkpoint.hardlink_to(self._checkpoint)
        for path in older - {self._best_checkpoint}:  # whoever takes them has not kept up, and a disk is finite
            path.unlink(missing_ok=True)

    def on_fit_epoch_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Say a finished epoch; the evaluation of the best weights looks like one more, and is none."""
        if not _is_first_process() or trainer.epoch != self._trained_epoch:
            return
        values: Mapping[str, float] = {**trainer.label_loss_items(trainer.tloss), **trainer.metrics, **trainer.lr}
        self._trained_epoch = -1
        self._say(
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
        """Note what goes wrong in the evaluation of the best weights, at its last batch."""
        if not validator.training and validator.batch_i + 1 == len(validator.dataloader):
            self._mistakes = _or_none(lambda: find_mistakes(validator, self.job.task))

    def on_train_end(self, trainer: Any) -> None:  # noqa: ANN401
        """Say the model, after its worst images were drawn."""
        weights = trainer.best if trainer.best.exists() else trainer.last
        if _is_first_process():
            self.draw_worst(trainer.validator, weights, trainer.save_dir)
        names = read_class_names(self.job.data)
        self._say(
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
        """Draw the images in which most went wrong, if anything is to be drawn."""
        if not self.job.arguments.get("plots", True):
            return
        device = first_device(self.job.arguments.get("device"))
        job = self.job.task, int(validator.args.imgsz), device
        _or_none(lambda: draw_worst(self._mistakes, validator.dataloader.dataset, weights, job, folder / FOLDER))


def _is_first_process() -> bool:
    from ultralytics.utils import RANK  # asked at the event: it comes in another process than it was written in

    return RANK in {-1, 0}


def _or_none(make: Callable[[], list[Mistakes] | None]) -> list[Mistakes]:
    """What is made for the report; whatever fails in it, a training that went well has gone well."""
    try:
        return make() or []
    except Exception:
        LOG.warning("the report of this training will be without its worst pictures", exc_info=True)
        return []


def _evaluate_best(job: TrainingJob, model: Any, say: EmitEvent) -> TrainedModel:  # noqa: ANN401
    """Do what Ultralytics does after the last epoch, which was the last thing an earlier attempt did."""
    from ultralytics.utils.plotting import plot_results

    folder, epochs = job.folder / RUN_FOLDER, int(model.ckpt["epoch"]) + 1
    weights = folder / "weights" / ("best.pt" if job.best is not None else "last.pt")
    strip_optimizer(weights)
    best = load_model(str(weights), job.task)
    how = {name: job.arguments[name] for name in ("imgsz", "batch", "workers")}
    device = first_device(job.arguments.get("device"))
    callbacks = UltralyticsCallbacks(job, say)
    best.add_callback("on_val_batch_end", callbacks.on_val_batch_end)
    best.add_callback("on_val_end", lambda validator: callbacks.draw_worst(validator, weights, folder))
    scores = evaluate_split(job.data, best, job.task, save_dir=str(folder), device=device, **how)
    plot_results(file=str(folder / "results.csv"))
    return TrainedModel(
        weights=weights,
        folder=folder,
        task=job.task,
        class_names=read_class_names(job.data),
        scores=scores,
        epochs=epochs,
        best_epoch=job.best_epoch if job.best is not None else epochs,
        batch=int(how["batch"]),
    )
