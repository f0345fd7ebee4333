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
        say(_evaluate_best(job, model))
        return
    override_class_names(model, read_class_names(job.data))
    _add_callbacks(model, say, _Progress(job), owners)
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
        say(EpochResult(number, of, metrics, float(took), batch, restored=True))
    return model, {"resume": str(last)}


class _Progress:
    """What has to be remembered from one callback of Ultralytics to the next; DDP sends it to another process."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.best = job.best_epoch
        self.checkpoint: Path | None = None
        self.best_checkpoint: Path | None = None
        self.trained = -1
        self.wrong: list[Mistakes] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come to life in the process of another GPU, which has just begun and is not set up."""
        configure_ultralytics()
        self.__dict__.update(state)

    def keep(self, trainer: Any) -> None:  # noqa: ANN401 - ultralytics ships no types
        """Copy `last.pt` to a name of its own: Ultralytics writes into the same file again after the next epoch."""
        number = trainer.epoch + 1
        if trainer.best_fitness == trainer.fitness:
            self.best = number
        folder = self.job.folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        older = set(folder.glob("*.pt"))
        partial = Path(shutil.copyfile(trainer.last, folder / "copying"))
        self.checkpoint = partial.rename(folder / f"{number:05d}.pt")
        if self.best == number:
            self.best_checkpoint = folder / f"best-{number:05d}.pt"
            self.best_checkpoint.hardlink_to(self.checkpoint)
        for path in older - {self.best_checkpoint}:  # whoever takes them has not kept up, and a disk is finite
            path.unlink(missing_ok=True)

    def look(self, validator: Any) -> None:  # noqa: ANN401
        """Note what goes wrong in the evaluation of the best weights, at its last batch."""
        if not validator.training and validator.batch_i + 1 == len(validator.dataloader):
            self.wrong = _or_none(lambda: find_mistakes(validator, self.job.task))

    def show(self, validator: Any, weights: Path, folder: Path) -> None:  # noqa: ANN401
        """Draw the pictures in which most went wrong, where anything is to be drawn."""
        if not self.job.arguments.get("plots", True):
            return
        device = first_device(self.job.arguments.get("device"))
        job = self.job.task, int(validator.args.imgsz), device
        _or_none(lambda: draw_worst(self.wrong, validator.dataloader.dataset, weights, job, folder / FOLDER))

    def epoch(self, trainer: Any) -> EpochResult | None:  # noqa: ANN401
        """The epoch that is finished; None for the evaluation of the best weights, which looks like one more."""
        if trainer.epoch != self.trained:
            return None
        values: Mapping[str, float] = {**trainer.label_loss_items(trainer.tloss), **trainer.metrics, **trainer.lr}
        return EpochResult(
            number=trainer.epoch + 1,
            total_epochs=trainer.epochs,
            metrics={metric_name(name): float(value) for name, value in values.items()},
            seconds=trainer.epoch_time,
            batch=trainer.batch_size,
            checkpoint=self.checkpoint,
            best=self.best,
            best_checkpoint=self.best_checkpoint,
            is_last=bool(trainer.stop),
        )


def _add_callbacks(model: Any, say: EmitEvent, progress: _Progress, owners: Sequence[int]) -> None:  # noqa: ANN401
    """Have Ultralytics' callbacks tell the epochs and the outcome, in whichever process they are called.

    With several GPUs each has a process, and all of them call; the first one tells.
    """

    def begin(trainer: Any) -> None:  # noqa: ANN401
        for loader, split in ((trainer.train_loader, "train"), (trainer.test_loader, "val")):
            require_all_loaded(loader.dataset, progress.job.data, progress.job.task, split)
        if trainer.world_size > 1:  # one of several processes, whose parent is a launcher that knows no owner
            exit_when_process_ends(*owners)
        if trainer.resume and progress.job.best is None:
            trainer.best_fitness = None  # the best weights are lost: the best of what follows takes their place

    def trained(trainer: Any) -> None:  # noqa: ANN401
        progress.trained = trainer.epoch

    def finished(trainer: Any) -> None:  # noqa: ANN401
        from ultralytics.utils import RANK  # asked here: this runs in another process than it was written in

        if RANK in {-1, 0} and (epoch := progress.epoch(trainer)) is not None:
            say(epoch)
            progress.trained = -1

    def ended(trainer: Any) -> None:  # noqa: ANN401
        from ultralytics.utils import RANK

        weights = trainer.best if trainer.best.exists() else trainer.last
        names = read_class_names(progress.job.data)
        if RANK in {-1, 0}:
            progress.show(trainer.validator, weights, trainer.save_dir)
        say(
            TrainedModel(
                weights=weights,
                folder=trainer.save_dir,
                task=progress.job.task,
                class_names=names,
                scores=to_scores(trainer.validator, progress.job.task, names),
                epochs=trainer.epoch + 1,
                best_epoch=progress.best,
                batch=trainer.batch_size,
            )
        )

    model.add_callback("on_pretrain_routine_end", begin)
    model.add_callback("on_train_epoch_end", trained)
    model.add_callback("on_model_save", progress.keep)
    model.add_callback("on_fit_epoch_end", finished)
    model.add_callback("on_train_end", ended)
    model.add_callback("on_val_batch_end", progress.look)


def _or_none(make: Callable[[], list[Mistakes] | None]) -> list[Mistakes]:
    """What is made for the report; whatever fails in it, a training that went well has gone well."""
    try:
        return make() or []
    except Exception:
        LOG.warning("the report of this training will be without its worst pictures", exc_info=True)
        return []


def _evaluate_best(job: TrainingJob, model: Any) -> TrainedModel:  # noqa: ANN401
    """Do what Ultralytics does after the last epoch, which was the last thing an earlier attempt did."""
    from ultralytics.utils.plotting import plot_results

    folder, epochs = job.folder / RUN_FOLDER, int(model.ckpt["epoch"]) + 1
    weights = folder / "weights" / ("best.pt" if job.best is not None else "last.pt")
    strip_optimizer(weights)
    best = load_model(str(weights), job.task)
    how = {name: job.arguments[name] for name in ("imgsz", "batch", "workers")}
    device, progress = first_device(job.arguments.get("device")), _Progress(job)
    best.add_callback("on_val_batch_end", progress.look)
    best.add_callback("on_val_end", lambda validator: progress.show(validator, weights, folder))
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
