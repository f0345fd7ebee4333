"""Log lines of our processes: one JSON object a line, with what is known of the run and of the request.

The standard library alone: Prefect loads the formatter from its logging configuration (infra/logging/prefect.yaml).
"""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from urllib.parse import urlsplit
from uuid import UUID

REQUEST_ID_HEADER = "X-Request-Id"
RUN_HEADER = "X-Studio-Flow-Run"
SERVICE_VARIABLE = "STUDIO_LOG_SERVICE"  # the name of the service, for processes that Prefect starts
FLOW = "flow"  # the service of what a flow run says itself
LONGEST_MESSAGE = 32_768  # characters
_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"  # Prefect's worker sets it for the process of a run
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH", re.IGNORECASE)
_SHORTEST_SECRET = 8  # characters; a shorter text is found in ordinary words
_HIDDEN = "[hidden]"

_of_process: dict[str, object] = {}
_of_request: ContextVar[dict[str, object] | None] = ContextVar("request", default=None)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON in ASCII: no sign of a message reaches a terminal as a command.

    The values that this process has been given as keys and passwords are hidden, wherever they come from.
    """

    def __init__(self, service: str = "") -> None:
        """Take the name of the service; without one it is that of the environment."""
        super().__init__()
        in_flow = _RUN_VARIABLE in os.environ
        self._service = service or (FLOW if in_flow else os.environ.get(SERVICE_VARIABLE, ""))
        self._secrets = [json.dumps(secret)[1:-1] for secret in secrets_of(os.environ)]

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        entry: dict[str, object] = {
            "time": to_text(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": cut(record.getMessage()),
        }
        entry |= current_fields() | _fields_of(record)
        if record.exc_info:
            entry["traceback"] = cut(self.formatException(record.exc_info))
        line = json.dumps(entry, default=str)
        for secret in self._secrets:
            line = line.replace(secret, _HIDDEN)
        return line


def to_text(time: datetime) -> str:
    """Return a time as all lines have it: UTC in ISO 8601, to the microsecond, of one length."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def cut(text: str) -> str:
    """Return a text, or its beginning and how much more there was."""
    more = len(text) - LONGEST_MESSAGE
    return text if more <= 0 else f"{text[:LONGEST_MESSAGE]} ... {more:,} characters more"


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the keys and passwords of an environment, by the names of its variables and in its addresses."""
    found = set[str]()
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and not value.startswith("/"):
            found |= {value, value.partition(":")[2]}
        elif "://" in value and "@" in value:
            with contextlib.suppress(ValueError):
                found.add(urlsplit(value).password or "")
    return sorted((each for each in found if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What Prefect's loggers of runs say of theirs, and what a line of ours says in `extra={"fields": ...}`."""
    fields = {name: getattr(record, name, None) for name in ("flow_run_id", "task_run_name")}
    fields["flow"] = getattr(record, "flow_name", None)
    given = {name: value for name, value in fields.items() if value not in {None, "<unknown>"}}
    return given | getattr(record, "fields", {})


def current_fields() -> dict[str, object]:
    """Return what is known here: of the flow run of this process, and of the request that is being answered."""
    known = dict(_of_process)
    if not known and (run := os.environ.get(_RUN_VARIABLE)):
        known["flow_run_id"] = run
    return known | (_of_request.get() or {})


@contextlib.contextmanager
def run_context(flow_run_id: str, flow: str, parameters: Mapping[str, object]) -> Iterator[None]:
    """Have each line of this process name its flow run, and the model and the archives that the run is about."""
    _of_process.update({"flow_run_id": flow_run_id, "flow": flow, **subjects_of(parameters)})
    try:
        yield
    finally:
        _of_process.clear()


def subjects_of(parameters: Mapping[str, object]) -> dict[str, object]:
    """Return the model and the archives that a run with these parameters is about, as far as there are any."""
    named: list[object] = []
    for name in ("archive", "archives", "source"):
        value = parameters.get(name)
        named += value if isinstance(value, list) else [value] if value else []
    fields: dict[str, object] = {}
    if model := parameters.get("model_name"):
        fields["model"] = str(model)
    if named:
        fields["archives"] = [str(each) for each in named]
    return fields


def begin_request(fields: dict[str, object]) -> None:
    """Have each line of the current asyncio task, and of the threads that it starts, carry these fields."""
    _of_request.set(fields)


def add_to_request(**fields: object) -> None:
    """Add what was learnt about the request that is being answered; nothing if none is."""
    request = _of_request.get()
    if request is not None:
        request.update(fields)


def outgoing_headers() -> dict[str, str]:
    """Return the headers by which a service that is asked now finds who asks: the request, and the flow run."""
    known = current_fields()
    names = {REQUEST_ID_HEADER: "request_id", RUN_HEADER: "flow_run_id"}
    return {header: str(known[name]) for header, name in names.items() if name in known}


def is_run_id(text: str) -> bool:
    """Return whether a text is the id of a flow run as Prefect writes it."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def configure(service: str) -> None:
    """Have this process write JSON lines to standard error: ours from INFO on, those of libraries from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("infra", "tasks"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _log_end


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("this process ends: %s", error, exc_info=(kind, error, trace))
