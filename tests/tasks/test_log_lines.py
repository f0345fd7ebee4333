"""What our processes write: one JSON object a line, with the run and the request, and without a key."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tasks import log_lines
from tasks.log_lines import JsonFormatter, run_context, secrets_of
from tests.paths import ROOT

RUN = "7d444840-9dc0-41d1-b245-5ffdce74fad2"


def written(message: str, *values: object, **extra: object) -> dict[str, object]:
    record = logging.LogRecord("tasks.merge", logging.WARNING, "plan.py", 1, message, values, None)
    record.__dict__.update(extra)
    line = JsonFormatter("flow").format(record)
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line)
    assert isinstance(entry, dict)
    return entry


def test_a_line_says_when_how_grave_where_and_what() -> None:
    entry = written("%d images of %s", 3, "猫\x1b[2J\n\x85")
    assert list(entry)[:5] == ["time", "level", "service", "logger", "message"]
    assert str(entry["time"])[4::3][:2] == "--"
    assert str(entry["time"]).endswith("Z")
    assert len(str(entry["time"])) == len("2026-11-30T14:05:00.000000Z")
    assert [entry[name] for name in ("level", "service", "logger")] == ["warning", "flow", "tasks.merge"]
    assert entry["message"] == "3 images of 猫\x1b[2J\n\x85"


def test_a_line_within_a_run_names_it_its_model_and_its_archives() -> None:
    parameters = {"model_name": "shapes", "archives": ["a.zip", "b.zip"], "epochs": 3}
    with run_context(RUN, "train-model", parameters):
        heard: list[dict[str, object]] = []
        thread = threading.Thread(target=lambda: heard.append(written("x")))
        thread.start()
        thread.join()
    expected = {"flow_run_id": RUN, "flow": "train-model", "model": "shapes", "archives": ["a.zip", "b.zip"]}
    assert {name: heard[0].get(name) for name in expected} == expected
    assert "flow_run_id" not in written("after it")


def test_what_prefect_says_of_a_run_names_it() -> None:
    entry = written("submitted", flow_run_id=RUN, flow_name="<unknown>", flow_run_name="happy")
    assert (entry["flow_run_id"], "flow" in entry) == (RUN, False)


def test_keys_and_passwords_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key-of-s3")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "studio:pass-of-prefect")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pass-of-postgres@host/x")
    entry = written("s3cret-key-of-s3 pass-of-prefect pass-of-postgres", fields={"path": "/x/s3cret-key-of-s3"})
    assert entry["message"] == "[hidden] [hidden] [hidden]"
    assert entry["path"] == "/x/[hidden]"


def test_what_is_no_secret_is_not_hidden() -> None:
    assert (
        secrets_of({"PASSES": "3", "KEY_FILE": "/etc/keys", "HOME": "/home/someone", "PAGE": "http://host:80/x"}) == []
    )


def test_a_message_of_megabytes_is_cut_and_says_so() -> None:
    message = str(written("x" * 10_000_000)["message"])
    assert len(message) < 33_000
    assert message.endswith(" ... 9,967,232 characters more")


def test_a_process_that_ends_with_an_error_says_so_in_one_line() -> None:
    code = "from tasks import log_lines\nlog_lines.configure('mlflow')\nimport warnings; warnings.warn('old')\n1/0"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    warning, end = map(json.loads, done.stderr.splitlines())
    assert (warning["service"], warning["level"], "old" in warning["message"]) == ("mlflow", "warning", True)
    assert (end["level"], end["message"]) == ("critical", "this process ends: division by zero")
    assert end["traceback"].startswith("Traceback (most recent call last):")


def test_prefects_own_loggers_are_configured_as_prefect_does() -> None:
    """But for the console, which has our lines: a new release of Prefect that logs otherwise is seen here."""
    import prefect.logging.configuration as prefects

    ours = yaml.safe_load((ROOT / "infra" / "logging" / "prefect.yaml").read_text())
    theirs = yaml.safe_load(Path(prefects.DEFAULT_LOGGING_SETTINGS_PATH).read_text())
    loggers = dict(ours["loggers"])
    assert loggers.pop("infra") == {"level": "INFO"}
    assert (loggers, ours["root"]) == (theirs["loggers"], theirs["root"])
    assert ours["handlers"].keys() == theirs["handlers"].keys()
    assert ours["formatters"]["json"]["()"] == f"{log_lines.__name__}.{JsonFormatter.__name__}"
