"""Models, versions and runs of inference, as the flows leave them, without weights and images."""

import json
import time
from collections.abc import Mapping, Sequence
from uuid import uuid4

from mlflow import MlflowClient

from tasks.dataset.findings import LabelSource, OriginStatistics, Report, Statistics
from tasks.inference.publication import Publication
from tasks.inference.results.summary import HISTOGRAM_BINS, InferenceSummary
from tasks.parameters import InferenceParams
from tasks.storage.object_store import ObjectStore
from tasks.tracking.deployment_runs import RolloutRecord, write_rollout_record
from tasks.tracking.inference_runs import record_inference
from tasks.tracking.mlflow_client import TRAINING, experiment_id, quoted
from tasks.validation.check_records import record_check


def register(model: str, archives: Mapping[str, str], **tags: str) -> int:
    """A version that was trained on these archives (digests by name); the model is made if it is missing."""
    mlflow = MlflowClient()
    if not mlflow.search_registered_models(f"name = {quoted(model)}"):
        mlflow.create_registered_model(model)
    run = mlflow.create_run(experiment_id(mlflow, TRAINING)).info.run_id
    own = {
        "archives": json.dumps(archives),
        "class_names": '["a", "b"]',
        "task": "detect",
        "flow_run_id": str(uuid4()),
        "git_commit": "c" * 40,
        "metrics": '{"mAP50-95": 0.5}',
    }
    return int(mlflow.create_model_version(model, f"runs:/{run}/model", run, tags={**own, **tags}).version)


def infer(model: str, version: int, detections: int = 7, *, published: bool = True, chosen: bool = False) -> str:
    """A run of inference with a version; returns the id of its flow run."""
    summary = InferenceSummary(
        inputs=3,
        failed_inputs=1,
        images=2,
        videos=1,
        frames=10,
        detections=detections,
        seconds=1.0,
        classes={"a": detections},
        histogram=(0,) * HISTOGRAM_BINS,
        failures=(),
        failure_count=1,
        versions=(version,),
        class_names=("a", "b"),
    )
    publication = Publication(
        run=str(uuid4()), model_name=model, summary=summary, gallery="https://example.org", inference=InferenceParams()
    )
    record_inference.fn("some-run", publication, chosen=chosen)
    if published:
        publication.complete()
    return publication.run


def deploy(model: str, version: int | None, action: str = "deploy") -> str:
    """A change of what is served of a model; returns the id of its flow run."""
    record = RolloutRecord(action=action, model_name=model, flow_run_id=str(uuid4()), version=version)
    write_rollout_record.fn(record, "FINISHED", time.time())
    return record.flow_run_id


def check(archive: str, digest: str, *sources: LabelSource, accepted: Sequence[LabelSource] = ()) -> None:
    """The record of a check of what is stored now."""
    stored = ObjectStore("datasets").find(archive)
    assert stored is not None
    origins = OriginStatistics(images={}, labels={}, sources=sources, accepted_sources=tuple(accepted))
    statistics = Statistics(task="detect", origins=origins if sources or accepted else None)
    report = Report(archive=archive, digest=digest, findings=[], statistics=statistics)
    record_check.fn(report, stored.etag, "run-1")
