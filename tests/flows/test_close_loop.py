"""Loops on the stack's worker: side by side, and what is refused before anything is labelled."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.schemas.objects import State

from flows.close_loop import close_loop
from tasks.deletion.archives import find_obstacles
from tasks.orchestration import deployed_flows
from tasks.parameters import MergePolicy, TrainingParams, ValidationPolicy
from tasks.pipelines.session import pipeline_session
from tasks.pipelines.steps import loop_archive
from tasks.tracking import registered_models, registry
from tasks.tracking.lineage import PLAN_ARTIFACT, POLICIES_ARTIFACT
from tests.chaos.steps import read, until
from tests.flows import loops, registered
from tests.flows.pipelines import children, title

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def unserved(weights: Path) -> str:
    """A model whose champion says no archives, as one that was registered from weights."""
    name = f"loop-{uuid4().hex[:8]}"
    registry.set_alias.fn(name, registered_models.CHAMPION, registered.register(name, weights, None))
    return name


def refused(name: str, **given: Any) -> State:
    """How a loop ends that has labelled nothing."""
    state: State = close_loop(name, [f"{name}/"], **given, return_state=True)
    assert state.is_failed(), state
    run = state.state_details.flow_run_id
    assert run
    assert not [title(each) for each in children(run) if not title(each).startswith("check")]
    return state


def test_a_loop_whose_archives_are_not_there_labels_nothing(unserved: str) -> None:
    """All of them are told at once: a run that is tried again has the same parameters."""
    archives, gold = ["champion+", "absent.zip"], {"gold": "s3://datasets/gone.zip"}
    told = str(refused(unserved, archives=archives, promotion=gold).message)
    assert f"Expected {unserved} version 1 to name the archives of its training, found none" in told
    assert "Expected an archive at s3://datasets/absent.zip, found none" in told
    assert "Expected the archive of promotion.gold at s3://datasets/gone.zip, found none" in told


def test_a_loop_whose_base_model_is_not_there_labels_nothing(unserved: str) -> None:
    assert "found 'absent.pt', which is none of them" in str(refused(unserved, base_model="absent.pt").message)


@pytest.mark.heavy
@pytest.mark.parametrize("invalid", ["reviewed", "gold"])
def test_a_loop_with_an_invalid_archive_labels_nothing(unserved: str, tmp_path: Path, invalid: str) -> None:
    """Also if it is what people have reviewed in an earlier loop, or only measured on."""
    loops.store_archive(unserved, tmp_path)
    key = f"loops/{unserved}/0-reviewed.zip" if invalid == "reviewed" else f"{unserved}-gold.zip"
    boto3.client("s3").put_object(Bucket="datasets", Key=key, Body=b"no zip")
    told = str(refused(unserved, promotion={"gold": key} if invalid == "gold" else {}).message)
    assert f"Expected valid archives, found an archive that is not: {key} (http" in told


@pytest.mark.heavy
def test_a_new_archive_is_renamed_as_those_of_the_champion_were(unserved: str, tmp_path: Path) -> None:
    """What it calls its classes is read from its check."""
    loops.store_archive(unserved, tmp_path)
    mlflow = MlflowClient()
    run = str(mlflow.get_model_version(unserved, "1").run_id)
    merge = {"classes": {"square": "box", "dot": "circle"}}
    mlflow.log_dict(run, {"training": TrainingParams().model_dump(), "merge": merge}, POLICIES_ARTIFACT)
    mlflow.log_dict(run, {"archive_class_names": {"gone.zip": ["square", "dot"]}}, PLAN_ARTIFACT)
    mlflow.set_model_version_tag(unserved, "1", "class_names", '["box", "circle"]')

    @flow
    def merge_again() -> MergePolicy:
        with pipeline_session(unserved) as pipeline:
            pipeline.choose_archives([f"{unserved}-first.zip"])
            pipeline.check_archives(ValidationPolicy())
            merged: MergePolicy = pipeline.train_as_champion(None, None, None)["merge"]
            return merged

    assert merge_again().classes == {"square": "box"}


@pytest.mark.heavy
def test_two_loops_at_one_time_both_come_to_their_reviews(name: str, tmp_path: Path) -> None:
    """They fill queue `pipelines`; a person who cancels them has both reviews cancelled.

    While a loop waits, what it has made counts as read.
    """
    loops.store_data(name, tmp_path)
    both = [loops.start(name), loops.start(name)]
    for loop in both:
        until(lambda loop=loop: loops.waits(loop), "the loop waits for people")  # type: ignore[misc]
        assert reviews(loop, name) == "Suspended"
        reasons = [each.reason for each in find_obstacles(loop_archive(name, str(loop), "labelled.zip"), "")]
        assert reasons == [f"Unfinished runs read it: {read(loop).name}."]
    for loop in both:
        assert deployed_flows.cancel(loop) == "Cancelled"
    for loop in both:
        until(lambda loop=loop: reviews(loop, name) == "Cancelled", "nobody is asked any longer")  # type: ignore[misc]
        assert read(loop).state_name == "Cancelled"
        assert len([each for each in children(loop) if not title(each).startswith("check")]) == 3


def reviews(loop: UUID, name: str) -> str | None:
    found = loops.part(loop, f"review for {name}")
    return found.state_name if found else None
