"""Periodic calls in a thread beside other work."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def run_periodically(
    action: Callable[[], None], every_s: float, *, name: str, last_s: float | None = None
) -> Iterator[None]:
    """Call `action`, which must not raise, every `every_s` seconds while the block lasts.

    The end of the block waits up to `last_s` seconds for a running call; None: until it ends.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            action()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(last_s)
