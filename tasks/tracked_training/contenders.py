"""A version that is compared with another one: its weights, its scores, and what it finds."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.errors import StudioError
from tasks.evaluation import steps as evaluation_steps
from tasks.evaluation.labelled_images import EvaluationSet
from tasks.merge.steps import MergedDataset, write_relabelled_split
from tasks.orchestration.current_run import run_logger
from tasks.parameters import TrainingParams
from tasks.promotion.rules import GOLD, VALIDATION, EvaluatedVersion
from tasks.tracking import registry
from tasks.training.job import EvaluationTarget, first_device
from tasks.training.steps import evaluate_once
from tasks.vision.metrics import Scores


@dataclass(frozen=True, eq=False, kw_only=True)
class Contender:
    """A version that is compared; `folder` takes its files, `trained` are its weights if they are on this machine."""

    version: registry.ModelVersion
    folder: Path
    trained: Path | None = None

    @cached_property
    def weights(self) -> Path:
        """The weights, fetched once from the registry.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        return self.trained or registry.fetch_weights(self.version, self.folder / "weights")

    def measure(self, dataset: MergedDataset, training: TrainingParams) -> EvaluatedVersion:
        """Return the version with its scores on split `val` and on the gold archive; never raises.

        If it cannot be measured it has none, and says why.
        """
        version = self.version
        data = {VALIDATION: dataset.data} | ({GOLD: dataset.gold} if dataset.gold else {})
        scores: dict[str, Scores] = {}
        fault = ""
        try:
            scores = {name: self._measure_on(path, name, dataset, training) for name, path in data.items()}
        except Exception as error:  # noqa: BLE001 - the version is registered; without scores it is not promoted
            is_expected = isinstance(error, StudioError | OSError)
            fault = str(error) if is_expected else repr(error)
            run_logger().warning(
                "version %d could not be measured: %s", version.version, fault, exc_info=not is_expected
            )
        return EvaluatedVersion(
            version=version.version, task=version.task, class_names=version.class_names, scores=scores, fault=fault
        )

    def _measure_on(self, data: Path, name: str, dataset: MergedDataset, training: TrainingParams) -> Scores:
        own = self.version
        view = write_relabelled_split(data, dataset.task, dataset.class_names, own.class_names, self.folder / name)
        target = EvaluationTarget(weights=self.weights, data=view, image_size=own.image_size)
        return evaluate_once(target, dataset.task, training, self.folder)

    def predict(self, images: EvaluationSet, kind: str, training: TrainingParams) -> evaluation_steps.Predictions:
        """Return what the version finds in the images; a retried run goes on after what is kept in folder `kind`.

        Raises:
            StudioError: The version cannot predict, or MLflow or the object store cannot be reached.
        """
        device = first_device(training.device)
        return evaluation_steps.predict(images, self.version, self.weights, device, kind, self.folder / kind)
