"""Weights that were trained elsewhere as a version: read, measured on an archive, and registered."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.export.steps import export_onnx
from tasks.files import sha256_of
from tasks.merge import steps as merge_steps
from tasks.merge.class_mapping import match_class_ids
from tasks.merge.yolo_writer import split_folders, write_data_yaml
from tasks.orchestration import artifacts, events
from tasks.orchestration.current_run import flow_run_id, flow_run_name, log_step
from tasks.orchestration.step import retried
from tasks.parameters import MergePolicy, PromotionPolicy, TrainingParams, ValidationPolicy
from tasks.promotion.report import promotion_markdown
from tasks.promotion.rules import Decision
from tasks.rendering.links import links_markdown
from tasks.rendering.markdown import table
from tasks.storage import steps as storage_steps
from tasks.tracked_training.comparison import decide_promotion
from tasks.tracked_training.inputs import TrainingData, merge_archives
from tasks.tracked_training.publication import announce_decision, announce_registration, apply_decision
from tasks.tracking import registry, runs
from tasks.tracking.lineage import imported_tags
from tasks.tracking.links import describe_run, page_links
from tasks.tracking.payloads import version_description
from tasks.training import steps as training_steps
from tasks.training.base_models import is_known, require_official
from tasks.training.events import TrainedModel
from tasks.training.job import EvaluationTarget
from tasks.vision.metrics import Scores
from tasks.weights.description import WeightsDescription
from tasks.weights.steps import describe_weights

SHOWN_CLASSES = 50
_NOT_MEASURED = (
    "version {version}: imported, and not measured. It has no alias, and deploy-model takes it only if it is named."
)


@dataclass(frozen=True, kw_only=True)
class ImportedWeights:
    """Weights under the `name` that the user gave: their file, its SHA-256 in hex, and what they say of themselves."""

    name: str
    path: Path
    digest: str
    description: WeightsDescription


@dataclass(frozen=True, kw_only=True)
class TrackedImport:
    """An import with its open run in MLflow; `tags` say where its version comes from, `folder` takes its files."""

    weights: ImportedWeights
    data: TrainingData | None
    run_id: str
    tags: dict[str, str]
    folder: Path

    def measure(self) -> TrainedModel:
        """Return the weights with their scores on split `val` of the archive; without an archive they have none.

        Images of that split are kept in MLflow: a deployment is compared on them. Without an archive these are the
        photographs that come with Ultralytics, which have no labels.

        Raises:
            StudioError: No image of the archive shows a class of the weights, or they cannot be evaluated.
        """
        described = self.weights.description
        if self.data is None:
            data, images = _photographs(described, self.folder / "photographs"), {}
            scores = Scores(task=described.task, metrics={}, classes={}, images=0)
        else:
            dataset = self.data.dataset
            names = dataset.class_names, described.class_names
            data = merge_steps.write_relabelled_split(dataset.data, described.task, *names, self.folder / "labelled")
            images = dataset.images
            log_step("measuring the weights on %d images", images.get("val", 0))
            target = EvaluationTarget(weights=self.weights.path, data=data, image_size=described.image_size)
            (scores,) = training_steps.evaluate([target], described.task, TrainingParams(), self.folder)
        sample = merge_steps.MergedDataset(
            data=data, task=described.task, class_names=described.class_names, images=images
        )
        runs.log_artifact(self.run_id, merge_steps.write_sample(sample, self.folder))
        model = TrainedModel(
            weights=self.weights.path,
            folder=self.folder / "plots",
            task=described.task,
            class_names=described.class_names,
            scores=scores,
            epochs=0,
            best_epoch=0,
            batch=TrainingParams().batch,
        )
        runs.log_training(self.run_id, model)
        return model

    def register(self, model_name: str, model: TrainedModel) -> registry.ModelVersion:
        """Return the weights as the next version of the model, with links to what made it.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        log_step("registering %s", model_name)
        size = self.weights.description.image_size
        links = links_markdown(page_links(flow_run_id(), self.run_id))
        description = version_description(model, size, self.tags, links)
        number = registry.register_version(model_name, self.run_id, model, size, self.tags, description)
        return registry.find_version(model_name, number)

    def compare(
        self, version: registry.ModelVersion, model: TrainedModel, promotion: PromotionPolicy
    ) -> Decision | None:
        """Return whether the version becomes challenger, as after a training, and make it so; None without archive.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        if self.data is None:
            return None
        decision = decide_promotion(version, model, self.data.dataset, TrainingParams(), promotion)
        runs.log_decision(self.run_id, decision)
        apply_decision(version, decision)
        return decision

    def announce(self, version: registry.ModelVersion, model: TrainedModel, decision: Decision | None) -> None:
        """Emit `model.imported`, and the decision if there is one, once for the version."""
        digests = self.data.digests if self.data else {}
        weights = {"weights": self.weights.name, "weights_digest": self.weights.digest}
        announce_registration(events.MODEL_IMPORTED, version, model, digests, weights)
        if decision:
            announce_decision(version, decision, digests)

    def show_report(self, version: registry.ModelVersion, model: TrainedModel, decision: Decision | None) -> str:
        """Show artifact `registration-report`; returns what became of the weights, in a sentence."""
        links = page_links("", version.run_id, version.name, version.version)
        known = self.data.dataset.class_names if self.data else ()
        places = match_class_ids(known, version.class_names)
        unknown = [name for name, place in zip(known, places, strict=True) if place is None]
        facts = [
            ("weights", self.weights.name),
            ("SHA-256", self.weights.digest),
            ("task", version.task),
            ("image size", f"{version.image_size} px"),
            (f"classes ({len(version.class_names)})", _listed(version.class_names)),
            *(
                [(f"classes of the archive that the weights lack ({len(unknown)})", _listed(unknown))]
                if unknown
                else []
            ),
            *((name, f"{value:.4f}") for name, value in model.scores.metrics.items()),
        ]
        outcome = decision.sentence if decision else _NOT_MEASURED.format(version=version.version)
        judged = promotion_markdown(decision) if decision else outcome
        title = f"# {version.name} version {version.version}"
        page = "\n\n".join([links_markdown(links), title, judged, table(("imported", ""), facts)])
        artifacts.show_markdown("registration-report", page)
        return f"{version.name} {outcome}"


def require_archive_for(archive: str | None, policy: ValidationPolicy, promotion: PromotionPolicy) -> None:
    """Check that an archive is named if there are policies about it and about scores.

    Raises:
        StudioError: There is none, and they would be left out.
    """
    if archive is None and (policy, promotion) != (ValidationPolicy(), PromotionPolicy()):
        expected = "an archive with a policy about it, or about scores"
        raise StudioError(expected_found_fix(expected, "no archive", "Name the archive to measure on."))


def fetch_weights(name: str, folder: Path) -> ImportedWeights:
    """Return weights of bucket base-models, or official ones, that a process without any key has read and exported.

    Raises:
        StudioError: They are not there, are no model that is served here, or do more than a model needs.
    """
    log_step("reading the weights %s", name)
    folder.mkdir()
    path = retried(storage_steps.fetch_base_model)(name, folder)
    if path is None:
        if not name.endswith(".pt") or not is_known(name):
            expected = "the key of a .pt file in bucket 'base-models', or official weights such as 'yolo11n.pt'"
            fix = "Upload it with `studio upload old.pt`."
            raise StudioError(expected_found_fix(expected, f"{safe_repr(name)}, which is none of them", fix))
        require_official(name)
        path = folder / name
    description = describe_weights(path)
    (folder / "export").mkdir()
    export_onnx(path, folder / "export", description.image_size)  # what cannot be deployed is no version
    return ImportedWeights(name=name, path=path, digest=sha256_of(path), description=description)


def merge_archive(
    archive: str | None, weights: ImportedWeights, policy: ValidationPolicy, promotion: PromotionPolicy, folder: Path
) -> TrainingData | None:
    """Return the archive on which the weights are measured, with the gold archive; None if none is named.

    Raises:
        StudioError: It is not there, not valid, or for another task.
    """
    if archive is None:
        return None
    merge = MergePolicy(boxes_from_polygons=weights.description.task == "detect")
    data = merge_archives([archive], promotion.gold, policy, merge, folder)
    if (task := data.dataset.task) != weights.description.task:
        expected = f"an archive that is labelled for {weights.description.task}, like the weights"
        raise StudioError(expected_found_fix(expected, f"one for {task}", "Name another archive."))
    return data


@contextmanager
def tracked_import(
    model_name: str, weights: ImportedWeights, data: TrainingData | None, folder: Path
) -> Iterator[TrackedImport]:
    """Open a run in MLflow for the import, and end it as the block ends; a retried flow run continues in its own.

    Raises:
        TrackingError: MLflow cannot be reached.
        StudioError: The class names are longer than a version can carry.
    """
    digests: Mapping[str, str] = data.digests if data else {}
    tags = imported_tags(weights.name, weights.digest, weights.description.class_names, digests, flow_run_id())
    fingerprint = hashlib.sha256(json.dumps([weights.digest, dict(digests)], sort_keys=True).encode()).hexdigest()
    parameters = {"model_name": model_name, "base_model": weights.name, "archives": ", ".join(digests)}
    run_id, tags = runs.open_run(flow_run_name(), fingerprint, tags, parameters)
    describe_run(run_id, page_links(flow_run_id()))
    with runs.closing_run(run_id):
        yield TrackedImport(weights=weights, data=data, run_id=run_id, tags=tags, folder=folder)


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:SHOWN_CLASSES], *(["..."] if len(names) > SHOWN_CLASSES else [])])


def _photographs(described: WeightsDescription, folder: Path) -> Path:
    """The pictures that come with Ultralytics, as split val; a tree needs a class, and any is as good."""
    package = find_spec("ultralytics")
    pictures = sorted(Path(package.origin or "").parent.glob("assets/*.jpg")) if package else []
    images, _ = split_folders(folder, "val", 0 if described.task == "classify" else None)
    images.mkdir(parents=True)
    for picture in pictures:
        shutil.copy(picture, images)
    return write_data_yaml(folder, described.task, described.class_names, {"train": "val", "val": "val"}, {})
