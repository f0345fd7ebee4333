"""What the bin of MLflow says, or an MLflow that has none."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.tracking.mlflow_bin import list_deleted
from tasks.tracking.mlflow_client import TrackingError


def ask(status: int, monkeypatch: pytest.MonkeyPatch) -> object:
    """Ask an MLflow that answers with this status and no JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.handle_request).start()
        return list_deleted()


def test_an_mlflow_elsewhere_has_no_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(404, monkeypatch) is None


@pytest.mark.parametrize(("status", "transient"), [(401, False), (503, True)])
def test_only_a_server_that_may_come_back_is_asked_again(
    status: int, transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TrackingError, match=str(status)) as failure:
        ask(status, monkeypatch)
    assert failure.value.transient is transient
