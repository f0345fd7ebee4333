"""A way to a service that can be cut."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress


class Proxy:
    """Passes on every connection to a port of this machine, while it is open."""

    def __init__(self, target: int) -> None:
        self._target, self._lose, self._passes = target, threading.Event(), threading.Event()
        self._passes.set()
        self._server: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self.port = 0
        self.open()

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and cut those that there are."""
        if self._server is not None:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        self._server, connections, self._connections = None, self._connections, []
        for connection in connections:
            _cut(connection)

    def lose_next_answer(self) -> None:
        """Let the next request through, and cut the connection where its answer comes."""
        self._lose.set()

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """Let nothing through in the block, as a network that loses each packet; what was sent arrives after it."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                service = socket.create_connection(("127.0.0.1", self._target))
                self._connections += [client, service]
                for source, target, answers in ((client, service, False), (service, client, True)):
                    threading.Thread(target=self._pass, args=(source, target, answers), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and self._lose.is_set():
                    self._lose.clear()
                    break
                self._passes.wait()
                target.sendall(data)
        _cut(source)
        _cut(target)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
