"""Receivers of notifications on this machine: what Apprise posts to a `json://` address of it."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import SecretStr

from infra import notifications
from infra.stack_settings import StackSettings

SECRET = "hush-hush"  # a part of its address that nobody else may see


@dataclass
class Receiver:
    """`address` is for STUDIO_NOTIFY; `messages` are pairs of title and text, as they came, `kinds` their types."""

    address: str
    messages: list[tuple[str, str]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def titles(self) -> list[str]:
        """The titles of all messages so far."""
        return [title for title, _ in self.messages]


@contextmanager
def open_receiver() -> Iterator[Receiver]:
    """Listen until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.messages.append((body["title"], body["message"]))
            receiver.kinds.append(body["type"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"json://127.0.0.1:{server.server_address[1]}/{SECRET}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def open_dripping_receiver() -> Iterator[str]:
    """Answer with a byte each second until the end of the block, so that no read takes too long; gives the address."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not over.wait(1):
                    connection.sendall(b"x")
            except OSError:
                """The sender was ended."""

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=drip, args=[connection]).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"json://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@contextmanager
def open_receiver_of(stack: StackSettings) -> Iterator[Receiver]:
    """Listen to what a running stack tells until the end of the block."""
    with open_receiver() as receiver:
        told = stack.model_copy(update={"notify": SecretStr(receiver.address)})
        asyncio.run(notifications.ensure_notifications(told))
        yield receiver
        asyncio.run(notifications.ensure_notifications(stack))
