"""What is not to be torn apart by a cancellation."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def defer_cancellation() -> Iterator[None]:
    """Have a SIGTERM, by which a worker cancels a run, take effect at the end of the block.

    Only the main thread gets signals: in another, and where SIGTERM is handled outside of Python, nothing is done.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if came:
            signal.raise_signal(signal.SIGTERM)
