"""Metrics of MLflow: the champions, the trainings that go on or have just ended, and what inferences have done."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice, takewhile

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily

from infra.metrics.activity import Activity
from infra.metrics.exposition import MOST_VALUES, BoundedLabel
from tasks.tracking import inference_runs, registered_versions, training_figures
from tasks.tracking.champions import SINCE_TAG
from tasks.tracking.inference_runs import InferenceRun
from tasks.tracking.registered_models import CHAMPION
from tasks.tracking.registered_versions import RegisteredModel, RegisteredVersion
from tasks.tracking.training_figures import TrainingFigures

SCORES = ("mAP50", "mAP50-95", "accuracy_top1")
MOST_INFERENCES = 1000  # that one scrape looks at


class TrackingSource:
    """What the last trainings and inferences said stays; `activity` says which of them have to be read again."""

    name = "mlflow"

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._model = BoundedLabel()
        self._versions: dict[str, tuple[int, float, RegisteredVersion]] = {}
        self._inferences: set[str] = set()
        self._registry = registry = CollectorRegistry()
        self._epoch = Gauge("studio_training_epoch", "Epochs that are done.", ["model"], registry=registry)
        self._loss = Gauge(
            "studio_training_loss", "Loss of the newest epoch.", ["model", "split", "part"], registry=registry
        )
        self._score = Gauge(
            "studio_training_score_ratio", "Score after the newest epoch.", ["model", "score"], registry=registry
        )
        self._images = Counter(
            "studio_inference_images", "Images and frames of inferences that have ended.", ["model"], registry=registry
        )
        self._failed = Counter(
            "studio_inference_failed_inputs", "Inputs that could not be read.", ["model"], registry=registry
        )
        self._speed = Gauge(
            "studio_inference_images_per_second", "Speed of the last inference.", ["model"], registry=registry
        )

    def read(self) -> Iterable[Metric]:
        """Return the metrics of MLflow.

        Raises:
            TrackingError: It cannot be reached.
        """
        models = registered_versions.list_models()
        families = list(self._champions(models))
        for model in models[:MOST_VALUES]:  # from the beginning, so that a first inference is an increase
            self._images.labels(self._model(model.name))
            self._failed.labels(self._model(model.name))
        trainings, inferred_since = self._activity.trainings(), self._activity.inferred_since()
        progress = self._read_trainings(trainings) if trainings else {}
        if inferred_since is not None:
            self._read_inferences(datetime.fromtimestamp(inferred_since, UTC))
        self._activity.forget(trainings, inferred_since)
        return [*families, _progress(progress), *self._registry.collect()]

    def _champions(self, models: list[RegisteredModel]) -> Iterator[Metric]:
        yield GaugeMetricFamily("studio_models", "Registered models.", value=len(models))
        version = GaugeMetricFamily("studio_champion_version", "Version that is the champion.", labels=["model"])
        since = GaugeMetricFamily(
            "studio_champion_since_timestamp_seconds", "When it became champion.", labels=["model"]
        )
        score = GaugeMetricFamily(
            "studio_champion_score_ratio", "Score of the champion in its training.", labels=["model", "score"]
        )
        for model in islice((each for each in models if CHAMPION in each.aliases), MOST_VALUES):
            champion = self._champion(model)
            version.add_metric([model.name], champion.number)
            since.add_metric([model.name], _since(champion))
            for name, value in _scores(champion.tags).items():
                score.add_metric([model.name, name], value)
        yield from (version, since, score)

    def _champion(self, model: RegisteredModel) -> RegisteredVersion:
        """The version, read anew if it is another one, or was announced anew, since it was read."""
        number, tags = model.aliases[CHAMPION], hash(frozenset(model.tags.items()))
        known = self._versions.get(model.name)
        if known is None or known[:2] != (number, tags):
            known = (number, tags, registered_versions.read_version(model.name, number))
            self._versions[model.name] = known
        return known[2]

    def _read_trainings(self, trainings: Mapping[str, tuple[str, float]]) -> dict[str, float]:
        """Show where these trainings are; returns when each model's began, or its newest epoch ended."""
        progress = {self._model(model): start for model, start in trainings.values()}
        since = datetime.fromtimestamp(min(start for _, start in trainings.values()), UTC)
        for found in training_figures.list_trainings(since):
            if found.flow_run_id in trainings:
                model = self._model(trainings[found.flow_run_id][0])
                progress[model] = max(progress[model], found.epoch_ended)
                self._show(model, found)
        return progress

    def _show(self, model: str, training: TrainingFigures) -> None:
        self._epoch.labels(model).set(training.epoch)
        for (split, part), value in training.losses.items():
            self._loss.labels(model, split, part).set(value)
        for name, value in training.scores.items():
            self._score.labels(model, name).set(value)

    def _read_inferences(self, since: datetime) -> None:
        newest = islice(inference_runs.list_inference_runs(), MOST_INFERENCES)
        for run in reversed(list(takewhile(lambda run: run.created >= since, newest))):
            if run.run_id not in self._inferences:
                self._inferences.add(run.run_id)
                self._count(run)

    def _count(self, run: InferenceRun) -> None:
        model = self._model(run.model)
        self._images.labels(model).inc(run.figures.get("images", 0) + run.figures.get("frames", 0))
        self._failed.labels(model).inc(run.figures.get("failed_inputs", 0))
        if run.images_per_second is not None:
            self._speed.labels(model).set(run.images_per_second)


def _progress(progress: Mapping[str, float]) -> Metric:
    described = "When the training that goes on began, or its newest epoch ended."
    family = GaugeMetricFamily("studio_training_progress_timestamp_seconds", described, labels=["model"])
    for model, moment in progress.items():
        family.add_metric([model], moment)
    return family


def _since(champion: RegisteredVersion) -> float:
    """When it became champion; when it was registered, if its tag is missing or somebody else's."""
    try:
        return datetime.fromisoformat(champion.tags[SINCE_TAG]).timestamp()
    except (KeyError, ValueError):
        return champion.created.timestamp()


def _scores(tags: Mapping[str, str]) -> dict[str, float]:
    try:
        found = json.loads(tags.get("metrics", "{}"))
        return {name: float(found[name]) for name in SCORES if name in found and math.isfinite(found[name])}
    except (ValueError, TypeError):  # a tag of somebody else
        return {}
