"""One shape for what each program writes; the samples are lines that these programs wrote."""

from datetime import UTC, datetime

import pytest

from infra.logs.formats import read_header, read_object

WRITTEN = datetime(2026, 11, 30, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "I1130 11:37:47.408466 master.go:400 current: 127.0.0.1:9333 peers:",
            ("2026-11-30T11:37:47.408466", "info", "master.go:400", "current: 127.0.0.1:9333 peers:"),
        ),
        (
            'E1130 11:38:00.319045 17331 server.cc:241] "CudaDriverHelper has not been initialized."',
            ("2026-11-30T11:38:00.319045", "error", "server.cc:241", "CudaDriverHelper has not been initialized."),
        ),
        (
            "W1231 23:59:59.000001 filer.go:1 of last year",
            ("2025-12-31T23:59:59.000001", "warning", "filer.go:1", "of last year"),
        ),
        (
            "2026-11-30 11:37:46,264 CRIT Supervisor is running as root.",
            ("2026-11-30T11:37:46.264", "critical", "supervisord", "Supervisor is running as root."),
        ),
        (
            "2026-11-30 11:37:47.064 UTC [17307] FATAL:  the database system is starting up",
            ("2026-11-30T11:37:47.064", "error", "postgres", "the database system is starting up"),
        ),
        (
            "2026-11-30 11:37:47.064 UTC [7] postgres@mlflow ERROR:  duplicate key",
            ("2026-11-30T11:37:47.064", "error", "postgres", "duplicate key"),
        ),
        (
            "2026-11-30 11:37:47.064 UTC [7] postgres@mlflow STATEMENT:  SELECT 1",
            ("2026-11-30T11:37:47.064", "info", "postgres", "STATEMENT: SELECT 1"),
        ),
        (
            "2026/11/30 11:38:29 INFO mlflow.store.db.utils: Updating database tables",
            ("2026-11-30T11:38:29", "info", "mlflow.store.db.utils", "Updating database tables"),
        ),
        (
            "[2026-11-30 11:38:29,017] [django.server::log_message::161] [WARNING] Not Found",
            ("2026-11-30T11:38:29.017", "warning", "django.server", "Not Found"),
        ),
        (
            'ts=2026-11-30T11:38:29.017Z caller=main.go:587 level=error msg="a \\"b\\" c" err=x',
            ("2026-11-30T11:38:29.017", "error", "", 'a \\"b\\" c'),
        ),
    ],
)
def test_each_program_says_time_level_place_and_message(text: str, expected: tuple[str, ...]) -> None:
    header = read_header(text, WRITTEN)
    assert header is not None
    assert header.time == datetime.fromisoformat(expected[0]).replace(tzinfo=UTC)
    assert (header.level, header.logger, header.message) == expected[1:]


@pytest.mark.parametrize("text", ["", "I13", "I1332 25:00:00.000000 a.go:1 x", "Traceback", "2026", "[x]", "+-----+"])
def test_a_line_without_a_time_has_no_header(text: str) -> None:
    assert read_header(text, WRITTEN) is None


def test_the_database_of_a_line_of_postgresql_is_kept() -> None:
    header = read_header("2026-11-30 11:37:47.064 UTC [7] postgres@mlflow ERROR:  x", WRITTEN)
    assert header is not None
    assert header.fields == {"process": 7, "database": "mlflow", "database_user": "postgres"}


def test_the_front_doors_own_json_has_the_shape_of_ours() -> None:
    """Caddy's, with seconds since 1970 and the request inside."""
    request = {"method": "GET", "uri": "/mlflow/?key=x", "headers": {"X-Request-Id": ["r-1"]}}
    entry = {"level": "warn", "ts": 1796040000.5, "logger": "http.log.access", "msg": "handled", "request": request}
    header = read_object(entry)
    assert header is not None
    assert (header.level, header.logger, header.message) == ("warning", "http.log.access", "handled")
    assert header.time == datetime.fromtimestamp(1796040000.5, UTC)
    expected = {"method": "GET", "path": "/mlflow/", "request_id": "r-1"}
    assert {name: header.fields[name] for name in expected} == expected


@pytest.mark.parametrize("entry", [{}, {"time": "soon"}, {"ts": 1e400}, {"ts": None}, {"time": {}}, {"ts": True}])
def test_json_without_a_time_is_text(entry: dict[str, object]) -> None:
    assert read_object(entry) is None
