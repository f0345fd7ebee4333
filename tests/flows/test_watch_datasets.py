"""Archives that are new or have changed get one check each, whoever notices them first and however often."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import boto3
import pytest
from prefect import tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Failed, Scheduled
from rich.console import Console

from flows.validate_dataset import validate_dataset
from flows.watch_datasets import watch_datasets
from infra.demo import Demo
from infra.registration import POOL
from infra.stack_settings import StackSettings
from tasks.dataset_watch import checks
from tasks.dataset_watch.notifications import ObjectChange
from tasks.dataset_watch.rules import QUEUE, FoundArchive
from tasks.dataset_watch.steps import FIRST_WATCH
from tasks.orchestration import deployed_flows, outcome
from tasks.storage.multipart_uploads import WRITER
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.validation import check_records
from tests.clients import front_page
from tests.emitted import emitted
from tests.prefect_runs import make_run
from tests.tasks.dataset.archives import good, zipped
from tests.waiting import eventually

# The bucket is shared with other tests: these names are the first of a listing, so `max_checks` reaches them alone.
FIRST = "!"


@pytest.fixture
def prefix(client: SyncPrefectClient) -> Iterator[str]:
    """The beginning of the names of a test; the checks that it has started are not carried out."""
    queue = client.read_work_queue_by_name(QUEUE, work_pool_name=POOL)
    client.update_work_queue(queue.id, is_paused=True)
    prefix = f"{FIRST}{uuid4().hex}-"
    yield prefix
    for run in started(client, ""):
        if run.state and not run.state.is_final():
            client.set_flow_run_state(run.id, Cancelled(), force=True)
    client.update_work_queue(queue.id, is_paused=False)


def upload(key: str, text: str = "", writer: str = "") -> None:
    """Put an archive into the bucket; `writer` is the flow run that has written it."""
    written = {WRITER: writer} if writer else {}
    body = zipped({**good(), "README.txt": f"{key} {text}"})
    boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=body, Metadata=written)


def watch(max_checks: int) -> State:
    state: State = watch_datasets(max_checks=max_checks, return_state=True)
    assert state.is_completed(), state.message
    return state


def started(client: SyncPrefectClient, prefix: str) -> list[FlowRun]:
    """The checks that were started of archives whose names begin so."""
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[check_records.WATCHED]))
    return [
        run for run in client.read_flow_runs(flow_run_filter=tagged) if run.parameters["archive"].startswith(prefix)
    ]


def names(runs: list[FlowRun]) -> list[str]:
    return sorted(run.parameters["archive"] for run in runs)


def test_a_new_archive_is_checked_once_and_again_when_it_has_changed(client: SyncPrefectClient, prefix: str) -> None:
    upload(f"{prefix}a.zip")
    upload(f"{prefix}b.zip")
    boto3.client("s3").put_object(Bucket="datasets", Key=f"{prefix}c.txt", Body=b"")
    first = watch(2)
    assert (first.name, "2 checks started" in str(first.message)) == ("Completed", True)
    assert names(started(client, prefix)) == [f"{prefix}a.zip", f"{prefix}b.zip"]

    quiet = watch(1)
    assert (quiet.name == outcome.NOTHING_NEW) == str(quiet.message).endswith("0 checks started")
    assert len(started(client, prefix)) == 2
    upload(f"{prefix}a.zip", "changed")
    watch(1)
    assert names(started(client, prefix)) == [f"{prefix}a.zip", f"{prefix}a.zip", f"{prefix}b.zip"]
    (run,) = [run for run in started(client, prefix) if run.name == f"check {prefix}b.zip"]
    assert (run.work_queue_name, set(run.tags)) == ("checks", {"dataset", "watched"})


@pytest.mark.parametrize(("tag", "landed"), [("pipeline:{}", "false"), ("", "true")])
def test_an_archive_that_a_pipeline_has_made_starts_no_other_pipeline(
    client: SyncPrefectClient, prefix: str, deployment: UUID, tag: str, landed: str
) -> None:
    """It goes on with it: `shapes-*.zip` must not train on what close-loop of `shapes` has half done."""
    writer = str(make_run(client, deployment, tag=tag.format(uuid4())))
    upload(key := f"{prefix}a.zip", writer=writer)
    watch(1)
    (run,) = started(client, prefix)
    with tags(*run.tags):
        state: State = validate_dataset(archive=key, return_state=True)
    assert state.name == "Valid with warnings"
    body = boto3.client("s3").get_object(Bucket="datasets", Key=key)["Body"].read()
    event = emitted("dataset.validated", f"dataset:{sha256(body).hexdigest()}")
    assert event["resource"]["landed"] == landed


def test_what_is_over_the_limit_waits_for_the_next_watch(client: SyncPrefectClient, prefix: str) -> None:
    for letter in "abc":
        upload(f"{prefix}{letter}.zip")
    assert "1 check started" in str((first := watch(1)).message)
    assert "wait for the next watch" in str(first.message)
    watch(2)
    assert names(started(client, prefix)) == [f"{prefix}{letter}.zip" for letter in "abc"]


def test_an_archive_that_a_person_has_checked_as_it_is_is_left_alone(client: SyncPrefectClient, prefix: str) -> None:
    upload(f"{prefix}a.zip")
    upload(f"{prefix}b.zip")
    for letter in "ab":
        state: State = validate_dataset(archive=f"{prefix}{letter}.zip", return_state=True)
        assert state.name == "Valid with warnings"
    upload(f"{prefix}b.zip", "changed")
    watch(1)
    assert names(started(client, prefix)) == [f"{prefix}b.zip"]


def test_the_same_bytes_are_checked_again_when_they_come_back(client: SyncPrefectClient, prefix: str) -> None:
    upload(f"{prefix}a.zip")
    watch(1)
    (first,) = started(client, prefix)
    client.set_flow_run_state(first.id, Cancelled(), force=True)
    boto3.client("s3").delete_object(Bucket="datasets", Key=f"{prefix}a.zip")
    ended = datetime.now(UTC)
    eventually(lambda: datetime.now(UTC) > ended + timedelta(seconds=2), "a store that tells whole seconds")
    upload(f"{prefix}a.zip")
    watch(1)
    watch(1)
    assert len(started(client, prefix)) == 2


def test_a_check_that_fails_without_a_verdict_is_started_three_times_and_the_page_says_so(
    client: SyncPrefectClient, prefix: str, stack: StackSettings
) -> None:
    upload(key := f"{prefix}a.zip")
    with front_page(stack) as page:

        def said() -> str:
            return page.get("/datasets/report", params={"name": key}).raise_for_status().text

        assert "A check starts by itself within minutes" in said()
        for number in (1, 2, 3):
            watch(1)
            watch(1)
            runs = started(client, prefix)
            assert len(runs) == number
            assert "waits or goes on" in said()
            (newest,) = [run for run in runs if run.state and run.state.is_scheduled()]
            client.set_flow_run_state(newest.id, Failed(message="The disk is full."), force=True)
            assert ("It is started again by itself" in said()) == (number < 3)
        watch(1)
        assert len(started(client, prefix)) == 3
        assert "ended Failed, and there is no verdict. None starts by itself" in said()


def test_a_check_that_was_cancelled_stays_so_until_the_archive_changes(
    client: SyncPrefectClient, prefix: str, stack: StackSettings
) -> None:
    upload(key := f"{prefix}a.zip")
    watch(1)
    client.set_flow_run_state(started(client, prefix)[0].id, Cancelled(), force=True)
    watch(1)
    assert len(started(client, prefix)) == 1
    with front_page(stack) as page:
        assert "ended Cancelled" in page.get("/datasets/report", params={"name": key}).text
    upload(key, "changed")
    watch(1)
    assert len(started(client, prefix)) == 2


def test_the_first_watch_finds_checks_that_left_no_record(client: SyncPrefectClient, prefix: str) -> None:
    """As those of a release without records: whoever updates does not have every archive checked again."""
    watch(1)
    for letter in "ab":
        upload(f"{prefix}{letter}.zip")
    written = datetime.now(UTC)
    eventually(lambda: datetime.now(UTC) > written + timedelta(seconds=2), "a store that tells whole seconds")
    for letter in "ab":
        validate_dataset(archive=f"{prefix}{letter}.zip", return_state=True)
        check_records.delete_checks(f"{prefix}{letter}.zip")
    upload(f"{prefix}b.zip", "changed")
    boto3.client("s3").delete_object(Bucket="runs", Key=f"{checks.FOLDER}/{FIRST_WATCH}")
    watch(1)
    assert names(started(client, prefix)) == [f"{prefix}b.zip"]
    watch(1)
    assert names(started(client, prefix)) == [f"{prefix}b.zip"]


def test_a_notification_a_watch_and_the_demo_start_one_run(
    client: SyncPrefectClient, prefix: str, stack: StackSettings
) -> None:
    upload(f"{prefix}a.zip")
    written = ObjectChange(bucket="datasets", key=f"{prefix}a.zip")
    ((first,), (second,)) = checks.start_checks([written]), checks.start_checks([written])
    watch(1)
    third = Demo(stack, Console())._start_check(f"{prefix}a.zip")
    assert [run.id for run in started(client, prefix)] == [first.flow_run] == [second.flow_run] == [third]


def test_a_check_whose_key_somebody_has_taken_first_is_told_and_starts_when_that_run_is_gone(
    client: SyncPrefectClient, prefix: str
) -> None:
    upload(f"{prefix}a.zip")
    written = ObjectChange(bucket="datasets", key=f"{prefix}a.zip")
    stored = ObjectStore(Bucket.DATASETS).find(written.key)
    assert stored
    found = FoundArchive(key=written.key, etag=stored.etag, modified=stored.modified)
    taken = client.create_flow_run_from_deployment(
        deployed_flows.describe(checks.FLOW).id,
        parameters={"archive": f"{prefix}b.zip"},
        idempotency_key=found.idempotency_key,
        state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1)),
    )
    (answer,) = checks.start_checks([written])
    assert (answer.flow_run, "another value of 'archive'" in answer.reason) == (None, True)
    client.delete_flow_run(taken.id)
    (answer,) = checks.start_checks([written])
    assert [run.id for run in started(client, prefix)] == [answer.flow_run]


@pytest.mark.parametrize(
    ("bucket", "name", "reason"),
    [
        ("media", "a.zip", "only archives in bucket datasets"),
        ("datasets", "a.png", "only archives in bucket datasets"),
        ("datasets", "gone.zip", "it is gone"),
    ],
)
def test_a_notification_about_anything_else_says_why_nothing_is_checked(
    client: SyncPrefectClient, prefix: str, bucket: str, name: str, reason: str
) -> None:
    (answer,) = checks.start_checks([ObjectChange(bucket=bucket, key=f"{prefix}/{name}")])
    assert answer.flow_run is None
    assert reason in answer.reason
    assert started(client, prefix) == []


def test_a_name_that_no_flow_takes_is_in_the_report(client: SyncPrefectClient, prefix: str) -> None:
    upload(f"{prefix}\x1b.zip")
    try:
        state = watch(1)
        assert "1 cannot be checked" in str(state.message)
        assert (state.name == outcome.NOTHING_NEW) == (" 0 checks started" in str(state.message))
        assert "x1b.zip'" in report(client, state.state_details.flow_run_id).replace("<wbr>", "")
    finally:
        boto3.client("s3").delete_object(Bucket="datasets", Key=f"{prefix}\x1b.zip")


def report(client: SyncPrefectClient, flow_run: UUID | None) -> str:
    chosen = {"flow_run_id": {"any_": [str(flow_run)]}, "key": {"any_": ["dataset-watch"]}}
    (artifact,) = client.request("POST", "/artifacts/filter", json={"artifacts": chosen}).json()
    return str(artifact["data"])
