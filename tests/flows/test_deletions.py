"""Deletions, on the real stack: what goes, what is refused, what is left, and a run that is killed on its way."""

import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.logging import disable_run_logger
from prefect.states import AwaitingRetry, Completed, Running

from flows.delete_dataset import delete_dataset
from flows.delete_predictions import delete_predictions
from flows.delete_version import delete_version
from infra.stack_settings import StackSettings
from tasks.catalogue import tombstones
from tasks.catalogue.tombstones import Kind
from tasks.deletion import archives, journal, versions
from tasks.orchestration import current_run, events
from tasks.serving import model_repository
from tasks.storage import locks
from tasks.storage.object_store import ObjectStore
from tasks.tracking import champions, registry
from tests.clients import prefect_api
from tests.flows.registered import register
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("stack")


class KilledError(BaseException):
    """The process ends here."""


def run(flow: Callable[..., Any], *arguments: Any, **named: Any) -> State:
    state: State = flow(*arguments, **named, return_state=True)
    return state


def upload(key: str) -> bytes:
    body = f"archive {uuid4()}".encode()
    boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=body)
    return body


def keys(bucket: str, prefix: str) -> list[str]:
    return list(ObjectStore(bucket).keys(prefix))


def trained_on(model: str, archive: str, digest: str, weights: Path) -> int:
    number = register(model, weights, None)
    registry.tag_version.fn(model, number, {"archives": f'{{"{archive}": "{digest}"}}'})
    return number


def events_of(stack: StackSettings, kind: str, resource: str) -> list[dict[str, Any]]:
    query = {"filter": {"event": {"name": [kind]}, "resource": {"id": [resource]}}}
    with prefect_api(stack) as api:
        found: list[dict[str, Any]] = api.post("/events/filter", json=query).json()["events"]
    return found


def test_a_deleted_archive_leaves_a_tombstone_an_event_and_the_way_back(stack: StackSettings) -> None:
    key = f"{uuid4()}/it's <b>ü.zip"
    body = upload(key)

    state = run(delete_dataset, key)

    assert state.is_completed(), state.message
    assert keys("datasets", key) == []
    tombstone = tombstones.read(Kind.DATASET, key)
    assert tombstone is not None
    assert tombstone.flow_run_id == str(state.state_details.flow_run_id)
    command = tombstone.kept["restore"]
    assert command in str(state.message)
    event = eventually(lambda: events_of(stack, "dataset.deleted", f"dataset:{tombstone.digest}"), "the event")[0]
    assert event["payload"] == {"archive": key, "digest": tombstone.digest, "versions": [], "restore": command}

    *_, source = shlex.split(command)
    boto3.client("s3").copy_object(Bucket="datasets", Key=key, CopySource=source)
    assert boto3.client("s3").get_object(Bucket="datasets", Key=key)["Body"].read() == body


def test_an_archive_on_which_a_version_was_trained_goes_by_force_alone(untrained: Path) -> None:
    key, model = f"{uuid4()}.zip", f"model-{uuid4().hex[:8]}"
    upload(key)
    trained_on(model, key, "of-before", untrained)

    refused = run(delete_dataset, key)
    assert refused.is_failed()
    assert f"{model}/1 was trained on an earlier archive of this name" in str(refused.message)
    assert keys("datasets", key) == [key]
    assert tombstones.read(Kind.DATASET, key) is None

    assert run(delete_dataset, f"s3://datasets/{key}", force=True).is_completed()
    assert keys("datasets", key) == []


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ("s3://media/a.zip", "bucket datasets, found s3://media/a.zip"),
        ("no-such-archive-here.zip", "found none"),
        ("../x", ".."),
    ],
)
def test_what_is_no_archive_is_refused(archive: str, message: str) -> None:
    state = run(delete_dataset, archive)
    assert state.is_failed()
    assert message in str(state.message)


class Deadly:
    """Counts calls that change something outside, and dies at one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, *places: tuple[Any, str]) -> None:
        self.calls = 0
        self.last = 0
        for owner, name in places:
            patch.setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self.last:
                raise KilledError
            return function(*arguments, **named)

        return called


STORE = [(ObjectStore, name) for name in ("put", "delete", "delete_content")] + [(events, "_post_once")]


def killed_and_retried(patch: pytest.MonkeyPatch, flow: Any, last: int, *places: tuple[Any, str], **named: Any) -> bool:
    """Run a flow that dies at call number `last`, and try it again; False if it came to its end before."""
    with patch.context() as inner:
        deadly = Deadly(inner, *STORE, *places)
        deadly.last = last
        try:
            assert run(flow, **named).is_completed()
        except KilledError:
            pass
        else:
            return False
    state = retry_newest(flow, **named)
    assert state.is_completed(), state.message
    return True


def retry_newest(flow: Any, **parameters: Any) -> State:
    """Try the newest run of a flow again."""
    names = FlowFilter(name=FlowFilterName(any_=[flow.name]))
    with get_client(sync_client=True) as client:
        died = client.read_flow_runs(flow_filter=names, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        client.set_flow_run_state(died.id, AwaitingRetry(), force=True)
        again = client.read_flow_run(died.id)
    state: State = run_flow(flow, flow_run=again, parameters=parameters, return_type="state")  # type: ignore[assignment]
    return state


@pytest.mark.heavy
def test_the_deletion_of_an_archive_may_be_killed_anywhere(
    stack: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(1, 20):
        key = f"{uuid4()}.zip"
        upload(key)
        killed = killed_and_retried(monkeypatch, delete_dataset, last, archive=key)
        tombstone = tombstones.read(Kind.DATASET, key)
        assert tombstone is not None
        assert keys("datasets", key) == []
        assert "restore" in tombstone.kept
        resource = f"dataset:{tombstone.digest}"
        assert len(eventually(lambda: events_of(stack, "dataset.deleted", resource), "the event")) == 1  # noqa: B023
        if not killed:
            break
    assert last > 4  # the loop has met each call


def archive_is_replaced(patch: pytest.MonkeyPatch, owner: Any, name: str, key: str) -> None:
    """Another archive comes in the place of this one, once, when the call has been made."""
    real = getattr(owner, name)
    bodies: list[bytes] = []

    def call_and_upload(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        if not bodies:
            bodies.append(upload(key))
        return result

    patch.setattr(owner, name, call_and_upload)


MOMENTS: dict[str, tuple[Any, str]] = {
    "found": (ObjectStore, "find"),
    "read": (archives.find_archive, "fn"),
    "still there": (archives.archive_is_there, "fn"),
    "unused": (archives.require_unused_archive, "fn"),
    "begun": (journal.begin, "fn"),
}


@pytest.mark.parametrize(("owner", "name"), MOMENTS.values(), ids=MOMENTS)
def test_an_archive_that_came_in_its_place_stays(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"{uuid4()}.zip"
    upload(key)
    archive_is_replaced(monkeypatch, owner, name, key)

    state = run(delete_dataset, key)

    assert state.is_failed()
    assert "was replaced since. The new archive stays" in str(state.message)
    assert keys("datasets", key) == [key]
    assert tombstones.read(Kind.DATASET, key) is None


def test_a_deletion_that_is_tried_again_leaves_an_archive_that_came_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = f"{uuid4()}.zip"
    upload(key)
    real = journal.begin.fn

    def begin_and_die(deletion: journal.Deletion) -> None:
        real(deletion)
        upload(key)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(journal, "begin", begin_and_die)
        with pytest.raises(KilledError):
            run(delete_dataset, key)
    assert retry_newest(delete_dataset, archive=key).is_failed()
    assert keys("datasets", key) == [key]
    assert tombstones.read(Kind.DATASET, key) is None


def test_two_deletions_at_once_do_not_stop_each_other() -> None:
    key = f"{uuid4()}.zip"
    upload(key)
    with get_client(sync_client=True) as client:
        other = client.create_flow_run(delete_dataset, parameters={"archive": key}, state=Running()).id
        assert run(delete_dataset, key).is_completed()
        client.delete_flow_run(other)


def make_model(untrained: Path, versions: int) -> str:
    """A model with versions whose graphs are published; the last is the challenger."""
    model = f"model-{uuid4().hex[:8]}"
    for _ in range(versions):
        version = register(model, untrained, None)
        model_repository.publish_version.fn(model, version, untrained)
    return model


def numbers(model: str) -> list[int]:
    return sorted(int(each.version) for each in MlflowClient().search_model_versions(f"name = '{model}'"))


def test_a_deleted_version_leaves_its_run_and_the_tags_of_its_origin(stack: StackSettings, untrained: Path) -> None:
    model = make_model(untrained, 2)
    registry.tag_version.fn(model, 1, {"archives": '{"a.zip": "digest"}'})
    tracked = MlflowClient().get_model_version(model, "1")
    for version in (1, 2):
        ObjectStore("runs").put(f"learnt-samples/{model}/{version}/a.npz", b"sample")

    state = run(delete_version, model, 1)

    assert state.is_completed(), state.message
    assert numbers(model) == [2]
    assert keys("runs", f"learnt-samples/{model}/") == [f"learnt-samples/{model}/2/a.npz"]
    assert keys("models", f"{model}/1/") == []
    assert keys("models", f"{model}/2/")
    tags = MlflowClient().get_run(str(tracked.run_id)).data.tags
    assert tags[f"deleted_version.{model}.1"] == str(state.state_details.flow_run_id)
    tombstone = tombstones.read(Kind.VERSION, f"{model}/1")
    assert tombstone is not None
    assert tombstone.tags["archives"] == '{"a.zip": "digest"}'
    assert len(eventually(lambda: events_of(stack, "version.deleted", f"version:{model}/1"), "the event")) == 1


def test_the_versions_that_matter_stay_and_others_go_by_force(untrained: Path) -> None:
    model = make_model(untrained, 4)
    for champion, history in ((1, [1]), (2, [1, 2]), (3, [1, 2, 3])):
        champions.set_champion.fn(model, champion, history)

    for version, reason in ((4, "It is challenger"), (3, "It is champion"), (2, "goes back to")):
        state = run(delete_version, model, version, force=True)
        assert state.is_failed()
        assert reason in str(state.message)
    refused = run(delete_version, model, 1)
    assert "It was champion" in str(refused.message)
    assert numbers(model) == [1, 2, 3, 4]

    assert run(delete_version, model, 1, force=True).is_completed()
    assert champions.champion_history.fn(model) == [2, 3]
    assert numbers(model) == [2, 3, 4]


def test_a_version_that_is_served_stays(served: Any, untrained: Path) -> None:
    register(served.name, untrained, None)
    register(served.name, untrained, None)

    state = run(delete_version, served.name, served.version, force=True)

    assert "Triton serves it" in str(state.message)
    assert keys("models", f"{served.name}/{served.version}/")


def test_a_deployment_at_work_is_not_disturbed(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(untrained, 2)
    monkeypatch.setattr(versions, "LOCK_WAIT_S", 1.0)
    with disable_run_logger(), locks.serving_lock(model, str(uuid4()), lambda _: False):
        state = run(delete_version, model, 1)

    assert "Expected nothing else at work" in str(state.message)
    assert numbers(model) == [1, 2]


@pytest.mark.heavy
def test_the_deletion_of_a_version_may_be_killed_anywhere(
    stack: StackSettings, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [(MlflowClient, name) for name in ("log_batch", "delete_logged_model", "delete_model_version")]
    for last in range(1, 40):
        model = make_model(untrained, 2)
        killed = killed_and_retried(monkeypatch, delete_version, last, *calls, model_name=model, version=1)
        assert numbers(model) == [2]
        assert keys("models", f"{model}/1/") == []
        assert tombstones.read(Kind.VERSION, f"{model}/1") is not None
        assert len(eventually(lambda: events_of(stack, "version.deleted", f"version:{model}/1"), "it")) == 1  # noqa: B023
        if not killed:
            break
    assert last > 8


def test_deleted_results_are_gone_and_another_run_keeps_its_own(stack: StackSettings) -> None:
    first, second = str(uuid4()), str(uuid4())
    for each in (first, second):
        ObjectStore("predictions").put(f"{each}/index.html", b"gallery")
        ObjectStore("predictions").put(f"{each}/summary.json", b'{"model_name": "shapes"}')

    state = run(delete_predictions, first)

    assert state.is_completed(), state.message
    assert keys("predictions", first) == []
    assert len(keys("predictions", second)) == 2
    event = eventually(lambda: events_of(stack, "prediction.deleted", f"prediction:{first}"), "the event")[0]
    assert event["payload"] == {"run": first, "model": "shapes", "objects": 2, "size": 31}
    assert "found none" in str(run(delete_predictions, first).message)


def test_results_of_a_run_that_nobody_knows_go_by_force_alone() -> None:
    unknown = str(uuid4())
    ObjectStore("predictions").put(f"{unknown}/index.html", b"gallery")

    assert "Prefect does not know" in str(run(delete_predictions, unknown).message)
    assert run(delete_predictions, unknown, force=True).is_completed()


def test_results_of_a_run_under_way_stay() -> None:
    @flow
    def writing() -> State:
        own = current_run.flow_run_id()
        ObjectStore("predictions").put(f"{own}/summary.json", b"{}")
        messages.append(str(run(delete_predictions, own, force=True).message))
        return Completed()

    messages: list[str] = []
    assert run(writing).is_completed()
    assert "has not ended" in messages[0]


@pytest.mark.heavy
def test_the_deletion_of_results_may_be_killed_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for last in range(1, 20):
        results = str(uuid4())
        ObjectStore("predictions").put(f"{results}/index.html", b"gallery")
        ObjectStore("predictions").put(f"{results}/summary.json", b"{}")
        killed = killed_and_retried(monkeypatch, delete_predictions, last, run=results)
        assert keys("predictions", results) == []
        assert tombstones.read(Kind.PREDICTION, results) is not None
        if not killed:
            break
    assert last > 4
