"""What the services of a real stack log of a run and of a request, and how it is found again."""

import contextlib
import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg2
import pytest

from infra.logs.lines import Line
from infra.logs.query import Query
from infra.logs.reader import read_forwards
from infra.logs.runs import add_runs_about, read_run_log
from infra.stack_settings import StackSettings
from tasks.orchestration import deployed_flows
from tests.clients import front_page, mlflow_api
from tests.tasks.dataset.archives import good, zipped
from tests.waiting import eventually


def lines(stack: StackSettings, query: Query, *, of_prefect: bool = False) -> list[Line]:
    others = read_run_log(query) if of_prefect else ()
    return list(read_forwards(stack.state_dir / "logs", query, others))


@pytest.fixture(scope="module")
def archive(stack: StackSettings) -> Iterator[str]:
    from infra.services import s3_client

    name = f"猫-{uuid4().hex[:8]}.zip"
    s3_client(stack).put_object(Bucket="datasets", Key=name, Body=zipped(good()))
    yield name
    s3_client(stack).delete_object(Bucket="datasets", Key=name)


@pytest.fixture(scope="module")
def run(stack: StackSettings, archive: str) -> UUID:  # noqa: ARG001
    started = deployed_flows.start("validate-dataset", {"archive": archive})
    deployed_flows.wait(started, 120)
    return started


def test_a_run_is_found_in_all_services_by_its_id_and_by_its_archive(
    stack: StackSettings, run: UUID, archive: str
) -> None:
    query = Query(runs=[str(run)])
    found = eventually(lambda: _whole(lines(stack, query, of_prefect=True)), "lines of the run", 30)
    assert {line.service for line in found} >= {"flow", "worker", "mlflow"}
    (checking,) = [line for line in found if line.message == f"checking {archive}"]  # in the files and in Prefect
    expected = {"flow_run_id": str(run), "flow": "validate-dataset", "archives": [archive]}
    assert {name: checking.fields.get(name) for name in expected} == expected
    asked = [line for line in found if line.service == "mlflow"]
    assert {line.fields["status"] for line in asked} <= {200, 404}
    assert all(len(line.fields["request_id"]) == 32 for line in asked)
    assert asked[0].fields["user"] == "studio"

    by_archive = lines(stack, add_runs_about(Query(archive=archive)), of_prefect=True)
    assert {(line.time, line.message) for line in found} <= {(line.time, line.message) for line in by_archive}


def _whole(found: list[Line]) -> list[Line]:
    return found if any("Valid" in line.message for line in found) else []


def test_a_request_of_a_page_is_found_at_the_services_that_the_page_has_asked(stack: StackSettings) -> None:
    name = f"page-{uuid4().hex[:8]}"
    with front_page(stack) as page:
        answer = page.get("/runs/newest", headers={"X-Request-Id": name})
        page.get("/datasets/list", headers={"X-Request-Id": name})
    assert answer.headers["x-request-id"] == name

    def paths() -> set[object]:
        return {line.fields["path"] for line in lines(stack, Query(request=name)) if line.service == "studio"}

    eventually(lambda: paths() == {"/runs/newest", "/datasets/list"}, "lines of both requests", 10)
    assert {line.service for line in lines(stack, Query(request=name))} >= {"studio", "prefect"}


def test_each_service_of_ours_writes_json(stack: StackSettings, run: UUID) -> None:  # noqa: ARG001
    with mlflow_api(stack) as mlflow:
        assert mlflow.get("/health").status_code == 200
    for service in ("mlflow", "studio", "worker"):
        log = (stack.state_dir / "logs" / f"{service}.log").read_text()
        entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert entries
        assert all(list(entry)[:5] == ["time", "level", "service", "logger", "message"] for entry in entries)


def test_a_statement_that_fails_is_in_no_log(accounts_settings: StackSettings) -> None:
    """It holds what somebody has searched for, and whoever reads could so write what looks like a line of others."""
    said = f"nobody-{uuid4().hex[:8]}"
    with (
        contextlib.closing(psycopg2.connect(f"{accounts_settings.database_url}/postgres")) as connection,
        pytest.raises(psycopg2.errors.NumericValueOutOfRange),
    ):
        connection.cursor().execute(f"SELECT '{said}' OFFSET {10**30}")
    log = accounts_settings.state_dir / "postgres.log"  # of the server of these tests
    text = eventually(lambda: log.read_text() if "out of range" in log.read_text() else "", "the error", 10)
    assert said not in text


def test_what_other_programs_write_has_a_time_and_a_level(stack: StackSettings) -> None:
    for service in ("postgres", "object-store", "triton", "supervisord"):
        found = lines(stack, Query(services=[service]))
        timed = [line for line in found if line.logger]
        assert len(timed) > len(found) / 3, service
        began = (stack.state_dir / "supervisord.conf").stat().st_mtime
        assert all(abs(line.time.timestamp() - began) < 7200 for line in timed), service


def test_only_the_owner_reads_the_logs(stack: StackSettings) -> None:
    assert (stack.state_dir / "logs").stat().st_mode & 0o077 == 0
