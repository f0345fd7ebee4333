"""What a check of an archive leaves behind: state, pages, the MLflow run of its bytes, the event."""

import hashlib
import json
from typing import Any

import boto3
import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from flows.validate_dataset import validate_dataset
from tasks.parameters import ValidationPolicy
from tasks.tracking import validation_runs
from tasks.validation.check_records import read_checks
from tests.emitted import emitted, events
from tests.tasks.dataset.archives import good, zipped
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("stack")


def upload(key: str, seed: int) -> bytes:
    """Put an archive of its own bytes into bucket datasets."""
    body = zipped({**good(), "README.txt": f"archive {seed}"})
    boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=body)
    return body


def validated(archive: str, **policy: Any) -> State:
    state: State = validate_dataset(archive=archive, policy=ValidationPolicy.model_validate(policy), return_state=True)
    return state


def kept(state: State, name: str) -> dict[str, Any]:
    return dict(boto3.client("s3").get_object(Bucket="runs", Key=f"{state.state_details.flow_run_id}/{name}"))


def dataset_runs(body: bytes) -> list[Any]:
    mlflow = MlflowClient()
    experiment = mlflow.get_experiment_by_name("datasets")
    assert experiment is not None
    digest = hashlib.sha256(body).hexdigest()
    return list(mlflow.search_runs([experiment.experiment_id], f"tags.digest = '{digest}'"))


def test_the_report_is_kept_as_facts_and_as_a_page() -> None:
    upload("kept.zip", 1)
    state = validated("kept.zip")

    facts, page = kept(state, "report.json"), kept(state, "report.html")
    assert json.load(facts["Body"])["verdict"] == "valid-with-warnings"
    assert page["ContentType"] == "text/html; charset=utf-8"
    assert b"class-few" in page["Body"].read()


def test_the_same_bytes_are_not_checked_again_and_the_run_says_so() -> None:
    body = upload("first.zip", 2)
    # Zipped anew, it would have other bytes whenever the clock of the zip format ticks in between.
    boto3.client("s3").put_object(Bucket="datasets", Key="second.zip", Body=body)
    first, second, other = validated("first.zip"), validated("second.zip"), validated("second.zip", imgsz=320)

    assert "Not checked again" not in str(first.message)
    assert "Not checked again" in str(second.message)
    assert str(second.message).startswith("second.zip: valid-with-warnings")
    assert "Not checked again" not in str(other.message)
    assert b"first.zip" in kept(first, "report.html")["Body"].read()
    assert b"second.zip" in kept(second, "report.html")["Body"].read()


def test_the_order_of_codes_in_a_policy_makes_no_new_check() -> None:
    upload("order.zip", 3)
    validated("order.zip", ignore=["class-few", "class-split"])

    assert "Not checked again" in str(validated("order.zip", ignore=["class-split", "class-few"]).message)


def test_mlflow_has_one_run_of_the_same_bytes_with_the_newest_outcome() -> None:
    body = upload("tracked.zip", 4)
    validated("tracked.zip")
    validated("tracked.zip", raise_to_error=["class-few"])

    (run,) = dataset_runs(body)
    assert run.data.tags["verdict"] == "invalid"
    assert run.info.run_name == "tracked.zip"
    assert (run.data.metrics["images"], run.data.metrics["classes"]) == (2, 2)
    assert (run.data.metrics["findings/class-few"] > 0, run.data.metrics["findings/label-range"]) == (True, 0)
    assert {each.path for each in MlflowClient().list_artifacts(run.info.run_id)} == {"report.html", "report.json"}


def test_a_verdict_stands_if_mlflow_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    upload("untracked.zip", 5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(validation_runs.write_check, "retries", 0)

    assert validated("untracked.zip").name == "Valid with warnings"


def test_a_check_says_that_the_archive_is_there_and_what_is_said_of_it() -> None:
    """Under each name once, however often it is checked; its verdict with each check."""
    body = upload("announced.zip", 6)
    state = validated("announced.zip")
    resource = f"dataset:{hashlib.sha256(body).hexdigest()}"

    uploaded, verdict = emitted("dataset.uploaded", resource), emitted("dataset.validated", resource)
    facts = {"archive": "announced.zip", "digest": hashlib.sha256(body).hexdigest()}
    assert uploaded["payload"] == facts | {"size": len(body)}
    assert (
        verdict["payload"]
        .pop("report")
        .startswith(f"{boto3.client('s3').meta.endpoint_url}/runs/{state.state_details.flow_run_id}/report.html?")
    )
    assert verdict["payload"].pop("counts")["class-few"] > 0
    assert verdict["payload"] == facts | {"verdict": "valid-with-warnings"}
    assert verdict["resource"]["prefect.resource.name"] == "announced.zip"
    assert verdict["resource"]["verdict"] == "valid-with-warnings"
    assert f"prefect.flow-run.{state.state_details.flow_run_id}" in str(verdict["related"])

    boto3.client("s3").put_object(Bucket="datasets", Key="again.zip", Body=body)
    validated("announced.zip")
    validated("again.zip")
    eventually(lambda: len(events("dataset.validated", resource)) == 3, "an event for each check")
    names = [event["payload"]["archive"] for event in events("dataset.uploaded", resource)]
    assert sorted(names) == ["again.zip", "announced.zip"]


def test_a_check_counts_for_the_bytes_that_were_checked_and_no_longer_once_they_are_replaced() -> None:
    upload("replaced.zip", 7)
    state = validated("replaced.zip")
    checked = boto3.client("s3").head_object(Bucket="datasets", Key="replaced.zip")["ETag"]
    upload("replaced.zip", 8)
    present = boto3.client("s3").head_object(Bucket="datasets", Key="replaced.zip")["ETag"]

    old, new = read_checks([("replaced.zip", checked), ("replaced.zip", present)])
    assert old is not None
    assert (old.flow_run_id, old.verdict, old.images) == (
        str(state.state_details.flow_run_id),
        "valid-with-warnings",
        2,
    )
    assert new is None
