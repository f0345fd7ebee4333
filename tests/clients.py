"""Clients that ask while something else happens."""

import threading
from typing import Self


class Clients:
    """`count` threads that go through `run` from the beginning of a block to its end: it returns once `stop` is set."""

    def __init__(self, count: int) -> None:
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self.run) for _ in range(count)]

    def run(self) -> None:
        """What each of them does."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
