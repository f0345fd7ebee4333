"""Work that a cancellation must not interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def defer_cancellation() -> Iterator[None]:
    """Delay a SIGTERM, by which a worker cancels a run, to the end of the block.

    Does nothing outside of the main thread, which alone gets signals, or if SIGTERM is not handled in Python.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if received:
            signal.raise_signal(signal.SIGTERM)
