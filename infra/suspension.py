"""How the process of a run learns that somebody has suspended it: as Prefect does, but nothing waits for that."""

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

from prefect._flow_run_suspension import observe_flow_run_suspension


@contextlib.contextmanager
def observe_aside(*given: Any, **named: Any) -> Iterator[None]:  # noqa: ANN401 - what Prefect's own takes
    """Look for a suspension beside the block.

    Prefect's own has the run wait for a connection before it begins and for the end of a thread at its end, 0.2 to
    0.5 s. It asks for the state when it has connected, so it misses none that came before.
    """
    is_over = threading.Event()

    def observe() -> None:
        with observe_flow_run_suspension(*given, **named):
            is_over.wait()

    threading.Thread(target=contextvars.copy_context().run, args=(observe,), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
