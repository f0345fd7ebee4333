"""How long who asks Prefect waits for it, against a server on this machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prefect
import pytest
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.orchestration.prefect_client import (
    API_TIMEOUT_S,
    PrefectUnavailableError,
    fail_fast_client,
    patient_client,
    server_errors,
)


@contextmanager
def answer_with(*answers: int) -> Iterator[ThreadingHTTPServer]:
    """A server that gives these answers; in its context, Prefect's clients ask it."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(left.pop(0))
            self.send_header("Retry-After", "30")
            self.end_headers()
            self.wfile.write(f'"{prefect.__version__}"'.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever).start()
        with temporary_settings({PREFECT_API_URL: address}):
            try:
                yield server
            finally:
                server.shutdown()
    assert left == []


def test_a_server_that_has_answered_and_goes_away_is_not_waited_for() -> None:
    """It is overloaded, and then gone: Prefect's own client would ask again for a minute."""
    with answer_with(200, 503) as server:
        assert fail_fast_client().api_version() == prefect.__version__
        began = time.monotonic()
        with pytest.raises(PrefectUnavailableError, match="503"), server_errors():
            fail_fast_client().api_version()
        server.shutdown()
        server.server_close()
        with pytest.raises(PrefectUnavailableError, match="refused"), server_errors():
            fail_fast_client().api_version()
        assert time.monotonic() - began < API_TIMEOUT_S


def test_the_client_of_a_process_outlives_the_flow_in_which_it_was_first_used() -> None:
    with answer_with(200, 200, 200):
        with SyncClientContext.get_or_create(), patient_client() as inside:
            assert inside.api_version() == prefect.__version__
        with patient_client() as after:
            assert after.api_version() == prefect.__version__
        assert after is inside
    with answer_with(200), patient_client() as other:
        assert other.api_version() == prefect.__version__
