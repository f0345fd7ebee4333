"""Sends one message to addresses of Apprise: `python -m infra.message_sender`, with the message as JSON on its input.

In a process of its own: it can be ended whatever a receiver does, and a thread cannot.
"""

import json
import logging
import sys

import apprise


def main() -> int:
    """Send `{addresses, title, body, notify_type}`; return 1 if a receiver did not take it, and say why on stderr."""
    message = json.load(sys.stdin)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    name = "YOLO Studio"
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id=name, app_desc=name))
    service.add(message.pop("addresses"))
    return 0 if service.notify(**message) else 1


if __name__ == "__main__":
    sys.exit(main())
