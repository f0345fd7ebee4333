"""The page of a pipeline."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prefect.client.schemas.objects import StateType

from tasks.orchestration.child_runs import RunState
from tasks.pipelines.report import Stage, pipeline_markdown
from tasks.rendering.links import UiLinks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAGES = UiLinks(prefect="http://p", mlflow="http://m", live="http://l")


def stage(title: str, kind: StateType, message: str = "") -> Stage:
    run = RunState(
        id=uuid4(),
        name="x",
        type=kind,
        state=kind.title(),
        message=message,
        since=NOW,
        began=NOW - timedelta(minutes=5),
    )
    return Stage(title=title, run=run)


def test_each_run_has_its_link_state_and_duration() -> None:
    check, train = stage("check a.zip", StateType.COMPLETED, "valid"), stage("train x", StateType.RUNNING, "old news")
    lines = pipeline_markdown(["a.zip"], [check, train], PAGES, NOW).splitlines()
    assert f"- [check a.zip](http://p/runs/flow-run/{check.run.id}): Completed, 5 min: valid" in lines
    assert f"- [train x](http://p/runs/flow-run/{train.run.id}): Running, 5 min" in lines


def test_hostile_names_and_messages_stay_text() -> None:
    bad = "](http://evil) <script>alert(1)</script> *x*"
    text = pipeline_markdown([bad], [stage(bad, StateType.FAILED, bad)], PAGES, NOW)
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](http://evil)" not in text.replace("\\](http://evil)", "")


def test_of_many_archives_the_number_is_said() -> None:
    assert "- and 450 more" in pipeline_markdown([f"{n}.zip" for n in range(500)], [], PAGES, NOW)
