"""Passes alerts of Alertmanager on to the addresses of STUDIO_NOTIFY: `python -m infra.metrics.alert_sender FOLDER`.

A process of its own, with the standard library: an alert that the front page or Prefect is down must not need them. The
folder holds the token that Alertmanager shows, and the addresses, which are read anew with each message.
"""

import hmac
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from infra.loopback import HOST

MAX_BYTES = 1 << 20
MOST_SECONDS = 15  # for all receivers together; Alertmanager waits for 10 and tries again
MOST_LINES = 20
READ_S = 10
LONGEST = 500  # characters of a summary


def message_of(alerts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return title, text and kind of a message about alerts, as Alertmanager's webhook has them."""
    firing = [alert for alert in alerts if alert["status"] == "firing"]
    title = ", ".join(sorted({_plain(alert["labels"]["alertname"]) for alert in firing or alerts}))
    lines = [f"{'' if alert in firing else 'Over: '}{_plain(alert['annotations']['summary'])}" for alert in alerts]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"and {len(lines) - MOST_LINES} more"]
    return {
        "title": f"Alert: {title}" if firing else f"Over: {title}",
        "body": "\n".join(lines),
        "notify_type": "failure" if firing else "success",
    }


def _plain(text: object) -> str:
    """On one line; in Slack `<!channel>` would call everybody."""
    return " ".join(str(text).replace("<", "(").split())[:LONGEST]


def send(addresses: str, message: Mapping[str, str]) -> str:
    """Send a message to all addresses; returns why a receiver did not take it, or nothing."""
    try:
        sent = subprocess.run(
            [sys.executable, "-m", "infra.message_sender"],
            input=json.dumps({"addresses": addresses, **message}),
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"expected all receivers to answer within {MOST_SECONDS} s, found one that did not"
    return sent.stderr.strip() or "a receiver refused it" if sent.returncode else ""


class Handler(BaseHTTPRequestHandler):
    """Takes Alertmanager's webhook; `home` is the folder with token and addresses."""

    home: Path
    timeout = READ_S  # of a sender that has begun and says nothing more

    def do_GET(self) -> None:
        """Say that we are there."""
        self._answer(200 if self.path == "/health" else 404, "")

    def do_POST(self) -> None:
        """Pass the alerts on; Alertmanager tries again after 503."""
        expected = f"Bearer {(self.home / 'alert-sender.token').read_text()}"
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode("latin-1"), expected.encode()):
            return self._answer(401, "expected the token of alert-sender as a bearer token, found another or none")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > MAX_BYTES:
            return self._answer(
                413, f"expected a body of at most {MAX_BYTES} bytes, found one of {length[:20] or 'no'} bytes"
            )
        try:
            message = message_of(json.loads(self.rfile.read(int(length)))["alerts"])
        except (ValueError, LookupError, TypeError) as error:
            return self._answer(
                400, f"expected the webhook of Alertmanager, version 4, found something else ({error!r})"
            )
        addresses = (self.home / "notify").read_text().strip()
        reason = send(addresses, message) if addresses else ""
        print(
            message["title"],
            f"was not told: {reason}" if reason else "" if addresses else "is told to nobody",
            flush=True,
        )
        return self._answer(503 if reason else 200, reason)

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


def main() -> None:
    """Serve until the process is ended."""
    Handler.home = Path(sys.argv[1])
    bind = os.environ.get("STUDIO_BIND") or HOST
    with ThreadingHTTPServer((bind, int(os.environ["STUDIO_ALERT_SENDER_PORT"])), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
