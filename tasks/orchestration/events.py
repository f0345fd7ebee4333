"""The events that YOLO Studio emits: automations start from them, and people find them in the Prefect UI."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from prefect import runtime

from tasks.errors import StudioError
from tasks.orchestration.current_run import run_logger
from tasks.orchestration.prefect_client import fail_fast_client, server_errors
from tasks.orchestration.retries import RetryPolicy
from tasks.orchestration.step import SERVICE_RESTART

DATASET_UPLOADED = "dataset.uploaded"
DATASET_VALIDATED = "dataset.validated"
DATASET_DELETED = "dataset.deleted"
MODEL_TRAINED = "model.trained"
MODEL_IMPORTED = "model.imported"
MODEL_PROMOTED = "model.promoted"
APPROVAL_WANTED = "approval.wanted"
MODEL_REFUSED = "model.refused"
MODEL_DEPLOYED = "model.deployed"
MODEL_ROLLED_BACK = "model.rolled-back"
INFERENCE_COMPLETED = "inference.completed"
REVIEW_WANTED = "review.wanted"
REVIEW_FINISHED = "review.finished"
IMAGES_SELECTED = "images.selected"
MODEL_DRIFTED = "model.drifted"
VERSION_DELETED = "version.deleted"
PREDICTION_DELETED = "prediction.deleted"
OF_STATES = "studio.flow-run."  # the state of a run, as the server tells it anew, or that nobody is behind it
RUN_LEFT = f"{OF_STATES}left"  # after it the automation that finds dead runs expects no heartbeat


@dataclass(frozen=True, kw_only=True)
class EventKind:
    """When an event is emitted, the kind of its resource, and what each field of its payload holds."""

    occasion: str
    resource: str
    payload: Mapping[str, str]


_ARCHIVE = {"archive": "key in bucket `datasets`, or an `s3://` address", "digest": "SHA-256 of the archive"}
_VERSION = {"model": "name of the registered model", "version": "its number"}

EVENTS: Mapping[str, EventKind] = {
    DATASET_UPLOADED: EventKind(
        occasion="An archive is in bucket `datasets`, new or in place of another.",
        resource="dataset",
        payload={**_ARCHIVE, "size": "bytes"},
    ),
    DATASET_VALIDATED: EventKind(
        occasion="`validate-dataset` has a verdict.",
        resource="dataset",
        payload={
            **_ARCHIVE,
            "verdict": "`valid`, `valid-with-warnings` or `invalid`",
            "counts": "number of findings by code",
            "report": "address of the report",
        },
    ),
    DATASET_DELETED: EventKind(
        occasion="`delete-dataset` has removed an archive.",
        resource="dataset",
        payload={**_ARCHIVE, "versions": "versions that were trained on it", "restore": "how to get it back"},
    ),
    MODEL_TRAINED: EventKind(
        occasion="`train-model` has registered a version.",
        resource="version",
        payload={
            **_VERSION,
            "archives": "keys of the archives",
            "digests": "SHA-256 of each",
            "metrics": "metrics on the validation images, by name",
            "report": "address of the report",
        },
    ),
    MODEL_IMPORTED: EventKind(
        occasion="`register-model` has registered a version.",
        resource="version",
        payload={
            **_VERSION,
            "weights": "name of the weights",
            "weights_digest": "SHA-256 of the weights",
            "archives": "keys of the archives on which they were measured; empty if there are none",
            "digests": "SHA-256 of each",
            "metrics": "metrics on the validation images, by name",
        },
    ),
    MODEL_PROMOTED: EventKind(
        occasion="The new version is better than the champion, and is `challenger` now.",
        resource="version",
        payload={**_VERSION, "reason": "the comparison in a sentence", "report": "address of the report"},
    ),
    APPROVAL_WANTED: EventKind(
        occasion="A version has passed its gates, and `deploy-model` is suspended until a person answers.",
        resource="version",
        payload={
            **_VERSION,
            "replaces": "number of the champion that it would replace; null if none is served",
            "run": "id of the flow run that waits",
            "page": "address of that run, where the form is",
            "report": "address of the report of the parity gate; empty if there is none",
        },
    ),
    MODEL_REFUSED: EventKind(
        occasion="A version does not become `challenger`, or does not become champion.",
        resource="version",
        payload={
            **_VERSION,
            "refused_by": "`comparison`, `loading`, `parity`, `canary` or `approval`",
            "reason": "why, in a sentence",
            "report": "address of the report; empty if there is none",
            "falls_page": "address of the page of what fell most against the champion; empty if there is none",
        },
    ),
    MODEL_DEPLOYED: EventKind(
        occasion="A version is served and is the champion.",
        resource="version",
        payload={
            **_VERSION,
            "replaced": "number of the champion before; null if there was none",
            "approved_by": "who approved it; empty if nobody was asked",
            "comment": "the comment of that person",
            "report": "address of the report; empty if there is none",
        },
    ),
    MODEL_ROLLED_BACK: EventKind(
        occasion="An earlier version is the champion again.",
        resource="version",
        payload={**_VERSION, "replaced": "number of the champion before; null if there was none"},
    ),
    INFERENCE_COMPLETED: EventKind(
        occasion="`run-inference` has published its results.",
        resource="prediction",
        payload={
            **_VERSION,
            "run": "id of the flow run; results are in `s3://predictions/<run>/`",
            "inputs": "number of inputs",
            "detections": "number of detections",
            "failures": "number of inputs that could not be read",
            "gallery": "address of the gallery",
        },
    ),
    REVIEW_WANTED: EventKind(
        occasion="`review-images` shows images to people, and waits until they have submitted or skipped them.",
        resource="review",
        payload={
            **_VERSION,
            "run": "id of the flow run that waits",
            "images": "number of images",
            "page": "address of the project, of the task in CVAT, or of the page",
        },
    ),
    REVIEW_FINISHED: EventKind(
        occasion="`review-images` has published the archive of what people have submitted. Or people have answered, "
        "and it ends `Nothing reviewed`: then there is no archive, and the resource is the `review`.",
        resource="dataset",
        payload={
            "archive": "key in bucket `datasets`; empty if there is none",
            "digest": "SHA-256 of the archive; empty if there is none",
            **_VERSION,
            "run": "id of the flow run",
            "images": "number of images in the archive",
            "labels": "number of labels in it",
            "drawn": "how many of them people have drawn or moved",
            "changes": "number of objects accepted, moved, reclassed, added and deleted",
            "skipped": "number of images that were skipped",
            "set_aside": "number of images that were set aside, as an object is missing; `run:<run>` stands for them",
        },
    ),
    IMAGES_SELECTED: EventKind(
        occasion="`select-images` has chosen images, which an input `run:<run>` stands for.",
        resource="version",
        payload={
            **_VERSION,
            "run": "id of the flow run",
            "images": "number of images",
            "boxes": "number of boxes that are expected in them",
            "page": "address of the page that shows them",
        },
    ),
    MODEL_DRIFTED: EventKind(
        occasion="`monitor-model` finds that a version sees other images than in its validation, or does worse on "
        "them; not again while the same has drifted.",
        resource="version",
        payload={
            **_VERSION,
            "drifted": "names of the traits that drifted, and of the score if it has fallen",
            "reasons": "the same in sentences, and that the score may have fallen",
            "images": "number of images that were compared",
            "report": "address of the report",
        },
    ),
    VERSION_DELETED: EventKind(
        occasion="`delete-version` has removed a version.",
        resource="version",
        payload={**_VERSION, "tracked_run": "id of its training in MLflow, which stays"},
    ),
    PREDICTION_DELETED: EventKind(
        occasion="`delete-predictions` has removed the results of a run.",
        resource="prediction",
        payload={
            "run": "id of the flow run",
            "model": "name of the model that answered; empty if nobody knows",
            "objects": "number of objects",
            "size": "bytes",
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """What an event is about: an id such as `version:shapes/3`, a name, and labels that triggers can match."""

    id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, role: str | None = None) -> dict[str, str]:
        """Return it as Prefect's API takes it."""
        described = {**self.labels, "prefect.resource.id": self.id, "prefect.resource.name": self.name}
        return {**described, "prefect.resource.role": role} if role else described


def dataset(digest: str, archive: str, **labels: str) -> Resource:
    """Return the resource of an archive."""
    return Resource(id=f"dataset:{digest}", name=archive, labels=labels)


def model(name: str) -> Resource:
    """Return the resource of a registered model."""
    return Resource(id=f"model:{name}", name=name)


def version(name: str, number: int) -> Resource:
    """Return the resource of a registered version."""
    return Resource(id=f"version:{name}/{number}", name=f"{name} version {number}", labels={"model": name})


def prediction(flow_run: str) -> Resource:
    """Return the resource of what a run of inference has left."""
    return Resource(id=f"prediction:{flow_run}", name=flow_run)


def review(flow_run: str) -> Resource:
    """Return the resource of a round of review."""
    return Resource(id=f"review:{flow_run}", name=flow_run)


def emit(
    kind: str,
    resource: Resource,
    *,
    payload: Mapping[str, Any],
    key: str,
    related: Sequence[Resource] = (),
    patience: RetryPolicy = SERVICE_RESTART,
) -> bool:
    """Emit an event, once for each `key`: a run that is tried again emits nothing twice.

    An event is not worth a run: if the server does not take it within `patience`, the log says so.

    Returns:
        Whether the server has it.

    Raises:
        ValueError: The payload has other fields than `EVENTS` names for this kind.
    """
    if payload.keys() != EVENTS[kind].payload.keys():
        raise ValueError(f"{kind}: expected the fields {sorted(EVENTS[kind].payload)}, found {sorted(payload)}")
    linked = [*(each.to_json("studio") for each in related), *_own_run()]
    event = build(kind, resource, linked, payload) | {"id": str(uuid5(NAMESPACE_URL, f"{kind} {key}"))}
    try:
        patience.call(lambda: _post_once(event))
    except StudioError as error:
        run_logger().warning("event %s was not emitted: %s", kind, error)
        return False
    return True


def build(
    kind: str,
    resource: Resource,
    related: Sequence[Mapping[str, str]],
    payload: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return an event that occurs now, as Prefect's API takes it; `related` have roles."""
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": kind,
        "resource": resource.to_json(),
        "related": list(related),
        "payload": dict(payload or {}),
    }


def post(events: Iterable[Mapping[str, Any]]) -> None:
    """Send events to the server; none are no call.

    Raises:
        PrefectUnavailableError: The server does not answer.
    """
    if sent := list(events):
        with server_errors():
            fail_fast_client().request("POST", "/events", json=sent)


def _post_once(event: Mapping[str, Any]) -> None:
    with server_errors():
        if not _is_known(str(event["id"])):
            post([event])


def _is_known(event: str) -> bool:
    answer = fail_fast_client().request("POST", "/events/filter", json={"filter": {"id": {"id": [event]}}, "limit": 1})
    return bool(answer.json()["events"])


def _own_run() -> list[dict[str, str]]:
    """The flow run that emits, so that the Prefect UI shows the event there, and a message can link it."""
    with contextlib.suppress(Exception):  # whatever the runtime raises where no flow runs
        if runtime.flow_run.id:
            run = UUID(runtime.flow_run.id)
            name = str(runtime.flow_run.name)
            return [Resource(id=f"prefect.flow-run.{run}", name=name).to_json("flow-run")]
    return []
