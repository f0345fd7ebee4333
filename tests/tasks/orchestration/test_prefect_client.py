"""How long who asks Prefect waits for it, against a server on this machine."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.orchestration.prefect_client import (
    API_TIMEOUT_S,
    PrefectUnavailableError,
    fail_fast_client,
    server_errors,
)


def test_a_server_that_has_answered_and_goes_away_is_not_waited_for() -> None:
    """It is overloaded, and then gone: Prefect's own client would ask again for a minute."""
    answers = [200, 503]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0))
            self.send_header("Retry-After", "30")
            self.end_headers()
            self.wfile.write(b'"3"')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever).start()
        with temporary_settings({PREFECT_API_URL: address}):
            assert fail_fast_client().api_version() == "3"
            began = time.monotonic()
            with pytest.raises(PrefectUnavailableError, match="503"), server_errors():
                fail_fast_client().api_version()
            server.shutdown()
            server.server_close()
            with pytest.raises(PrefectUnavailableError, match="refused"), server_errors():
                fail_fast_client().api_version()
            assert time.monotonic() - began < API_TIMEOUT_S
    assert answers == []
