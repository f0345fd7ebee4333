"""One training with its run in MLflow: rehearsed, trained, registered, reported."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tasks.export.steps import export_onnx
from tasks.merge import steps as merge_steps
from tasks.merge.fingerprint import plan_digest
from tasks.merge.report import plan_facts
from tasks.merge.training_images import TRAINING_IMAGES, pack_training_images, training_images
from tasks.orchestration.current_run import flow_run_id, flow_run_name, log_step
from tasks.orchestration.flow_runs import OwnershipGuard, flow_run_is_final
from tasks.parameters import MergePolicy, PromotionPolicy, TrainingParams
from tasks.promotion.rules import Decision
from tasks.rendering.links import links_markdown
from tasks.storage.object_names import Bucket
from tasks.storage.steps import upload_file
from tasks.tracked_training.inputs import BaseModel, TrainingData
from tasks.tracking import live_metrics, registry, runs
from tasks.tracking.lineage import PLAN_ARTIFACT, POLICIES_ARTIFACT, lineage_tags
from tasks.tracking.links import describe_run, page_links
from tasks.tracking.payloads import run_parameters, version_description
from tasks.training import steps as training_steps
from tasks.training.attempts import EpochListener
from tasks.training.checkpoint_store import CheckpointStore
from tasks.training.checkpoints import fingerprint
from tasks.training.events import EpochResult, TrainedModel
from tasks.training.process import IMPORTS
from tasks.training.progress import EpochProgress
from tasks.training.report.html import training_page
from tasks.weights.fork_server import fork_server


def close_orphaned_runs() -> None:
    """Close the runs in MLflow that flow runs left open when they were killed; never raises."""
    runs.close_orphaned_runs(flow_run_is_final)


def warm_processes(folder: Path) -> AbstractContextManager[None]:
    """Have the processes of a training in the block be forks of one, which imports at once what they need."""
    return fork_server(folder, [*IMPORTS, "tasks.export.exporter"])


@dataclass(frozen=True, kw_only=True)
class TrainingSession:
    """What to train, from what, on what; `folder` takes the files of the training."""

    model_name: str
    base: BaseModel
    data: TrainingData
    training: TrainingParams
    folder: Path

    @cached_property
    def plan_digest(self) -> str:
        """The SHA-256 of the merge plan, in hex."""
        return plan_digest(self.data.plan)

    @property
    def fingerprint(self) -> str:
        """What is trained on what, as one hash in hex."""
        return fingerprint(self.plan_digest, self.base.name, self.training)

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        """The checkpoints of this flow run, as long as it trains the same thing."""
        return CheckpointStore(flow_run_id(), self.fingerprint)

    @cached_property
    def is_resumed(self) -> bool:
        """Whether an earlier attempt of this flow run has left a checkpoint."""
        return self.checkpoints.exist()

    def run_smoke_test(self) -> None:
        """Go through the whole chain on a few small images: what would fail after hours fails now.

        Raises:
            TrainingError: The training cannot work.
            ExportError: The export cannot.
        """
        log_step("rehearsing: load, train, evaluate and export on a few small images")
        dataset = self.data.dataset
        subset = merge_steps.write_smoke_test_subset(dataset, self.folder / "few")
        folder = self.folder / "rehearsal"
        job = training_steps.training_job(subset, dataset.task, self.base.source, self.training, folder)
        weights = training_steps.run_smoke_test(job, self.training).weights
        export_onnx(weights, folder / "export", training_steps.SMOKE_TEST_IMAGE_SIZE)

    @contextmanager
    def tracked_run(self, merge: MergePolicy, promotion: PromotionPolicy) -> Iterator["TrackedRun"]:
        """Open the training's run in MLflow, with its inputs and policies, and end it as the block ends.

        Raises:
            TrackingError: MLflow cannot be reached.
            StudioError: The class names are longer than a version can carry.
        """
        digests = self.data.digests
        tags = lineage_tags(
            digests, self.data.dataset.class_names, self.base.address, self.base.digest, flow_run_id(), self.plan_digest
        )
        parameters = run_parameters(self.model_name, self.training.flat(), self.base.name, digests)
        run_id, tags = runs.open_run(flow_run_name(), self.fingerprint, tags, parameters, self.is_resumed)
        describe_run(run_id, page_links(flow_run_id()))
        with runs.closing_run(run_id):
            runs.log_inputs(run_id, digests, self.plan_digest)
            runs.log_json(run_id, plan_facts(self.data.plan), PLAN_ARTIFACT)
            runs.log_artifact(run_id, self._write_training_images())
            chosen = {"training": self.training, "merge": merge, "promotion": promotion}
            runs.log_json(run_id, {name: each.model_dump() for name, each in chosen.items()}, POLICIES_ARTIFACT)
            yield TrackedRun(session=self, run_id=run_id, tags=tags)

    def _write_training_images(self) -> Path:
        path = self.folder / TRAINING_IMAGES
        path.write_bytes(pack_training_images(training_images(self.data.plan)))
        return path


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A training that goes on, with its open run in MLflow; `tags` say where its model comes from."""

    session: TrainingSession
    run_id: str
    tags: dict[str, str]
    epochs: list[EpochResult] = field(default_factory=list)

    def train(self) -> TrainedModel:
        """Train, on from the newest checkpoint if there is one, and keep the result in MLflow and in the store.

        Raises:
            TrainingError: The training stopped.
            Superseded: Another process has been given this flow run.
        """
        session, dataset = self.session, self.session.data.dataset
        folder = session.folder / "training"
        job = training_steps.training_job(dataset.data, dataset.task, session.base.source, session.training, folder)
        owner = OwnershipGuard()
        epoch_logger = live_metrics.EpochLogger(self.run_id, owner.is_certain)
        listeners: list[EpochListener] = [
            EpochProgress("training-progress"),
            epoch_logger,
            self.epochs.append,
            owner.stop_if_suspended,
        ]
        log_step("training %d epochs on %d images", session.training.epochs, dataset.images["train"])
        with live_metrics.system_metrics(self.run_id):
            model = training_steps.train(job, session.checkpoints, listeners, owner)
        owner.require()
        # Hours of training outlive a registry that is down.
        upload_file(model.weights, Bucket.RUNS, f"{flow_run_id()}/best.pt")
        runs.log_artifact(self.run_id, merge_steps.write_sample(dataset, session.folder))
        # What is logged once only comes after what has waited for MLflow.
        epoch_logger.flush()
        runs.log_training(self.run_id, model)
        owner.require()  # MLflow may have been away for minutes
        return model

    def register(self, model: TrainedModel) -> registry.ModelVersion:
        """Return the best weights as the next version of the model, with links to what made it.

        Raises:
            TrackingError: MLflow cannot be reached.
        """
        name = self.session.model_name
        log_step("registering %s", name)
        links = links_markdown(page_links(flow_run_id(), self.run_id))
        image_size = self.session.training.imgsz
        description = version_description(model, image_size, self.tags, links)
        return registry.ModelVersion(
            name=name,
            version=registry.register_version(name, self.run_id, model, image_size, self.tags, description),
            run_id=self.run_id,
            task=model.task,
            image_size=image_size,
            class_names=model.class_names,
        )

    def log_report(self, version: registry.ModelVersion, model: TrainedModel, decision: Decision) -> str:
        """Keep the decision and the page of the training (curves, worst images) in MLflow; returns the page as HTML."""
        runs.log_decision(self.run_id, decision)
        links = decision.links | page_links(flow_run_id(), self.run_id, version.name, version.version)
        title = f"{version.name} version {version.version}"
        report = training_page(title, model, self.epochs, decision, links, self.session.training)
        runs.log_page(self.run_id, report, "report.html")
        return report
