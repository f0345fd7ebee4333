"""Whether a door is open: by answers that say so, and by no others."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.command_errors import StackError
from infra.rotation.doors import Door, doors
from infra.stack_settings import StackSettings


class Answer(BaseHTTPRequestHandler):
    """Each request gets the answer of now, whatever it asks."""

    status, body = 200, b""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def do_POST(self) -> None:
        """Answer the same."""
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def all_doors(tmp_path: Path) -> Iterator[dict[str, Door]]:
    """Those of a stack whose services are all that server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        port = server.server_address[1]
        names = ("live", "prefect", "mlflow", "s3", "triton_http", "prometheus", "alertmanager", "label_studio")
        ports: dict[str, Any] = {f"{name}_port": port for name in names}
        settings = StackSettings(state_dir=tmp_path, metrics=True, review=True, **ports)
        yield doors(settings, settings.secrets | {"postgres_user": "studio"})
        server.shutdown()
        thread.join()


WEB = ("studio", "prefect", "mlflow", "prometheus", "alertmanager", "label-studio", "triton")


def web(all_doors: dict[str, Door]) -> list[Door]:
    found = [door for name, door in all_doors.items() if name.startswith(WEB)]
    assert len(found) == len(WEB)
    return found


@pytest.fixture(autouse=True)
def _environment_without_services(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL", "LABEL_STUDIO_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("status", "is_open"), [(200, True), (401, False), (403, False)])
def test_a_service_says_whether_its_door_is_open(
    all_doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch, status: int, is_open: bool
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    assert {door() for door in web(all_doors)} == {is_open}


@pytest.mark.parametrize("status", [204, 307, 400, 404, 429, 500, 503])
def test_any_other_answer_says_neither(
    all_doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    for door in web(all_doors):
        with pytest.raises(StackError, match=f"one of 200, 401, 403, found {status}"):
            door()


@pytest.mark.parametrize(
    ("code", "is_open"),
    [("AccessDenied", True), ("InvalidAccessKeyId", False), ("SignatureDoesNotMatch", False)],
)
def test_the_store_says_whether_it_knows_a_key(
    all_doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch, code: str, is_open: bool
) -> None:
    monkeypatch.setattr(Answer, "status", 403)
    monkeypatch.setattr(Answer, "body", f"<Error><Code>{code}</Code></Error>".encode())
    assert all_doors["object store, worker"]() is is_open


@pytest.mark.parametrize("code", ["InternalError", "NoSuchBucket", "MethodNotAllowed"])
def test_any_other_answer_of_the_store_says_neither(
    all_doors: dict[str, Door], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(Answer, "status", 400)
    monkeypatch.setattr(Answer, "body", f"<Error><Code>{code}</Code></Error>".encode())
    with pytest.raises(ClientError, match=code):
        all_doors["object store, worker"]()


def test_a_door_whose_value_is_not_there_is_left_out(tmp_path: Path) -> None:
    """A value that is kept is neither among the former ones nor among the new ones."""
    settings = StackSettings(state_dir=tmp_path)
    kept = {"triton_key", "s3_triton_access_key", "s3_triton_secret_key"}
    known = {name: value for name, value in settings.secrets.items() if name not in kept}
    found = doors(settings, known | {"postgres_user": "studio"})
    assert not [name for name in found if "triton" in name]
    assert {"prefect", "object store, worker", "postgres"} <= found.keys()
