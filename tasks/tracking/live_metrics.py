"""Metrics that are logged during a training: its epochs, and the load of the machine."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from tasks.settings import Settings
from tasks.tracking.mlflow_client import client, is_final, log_batch, log_errors, logger, mlflow_errors
from tasks.training.events import EpochResult

WAIT_S = 15.0
WAIT_WHILE_DOWN_S = 1.0
FLUSH_S = 45.0  # a request that an outage has swallowed takes 30 s to fail
SAMPLE_S = 10.0
RESTART_S = 20.0
EPOCH_MARKER_METRIC = "epoch_seconds"  # the metric that every logged epoch has


class EpochLogger:
    """Logs each epoch into one run as step `epoch.number`, each step once, also after an outage or a resume.

    Epochs that MLflow does not take wait and are logged in order later. A call takes at most 15 s, and 1 s while MLflow
    is known to be down; the request goes on beside the training. `flush` takes at most 45 s.

    While `is_certain` is False another process may be at the same run: epochs then wait until it is True, or for
    `flush`.
    """

    def __init__(self, run_id: str, is_certain: Callable[[], bool]) -> None:
        self._run_id = run_id
        self._is_certain = is_certain
        self._client = client()
        self._logged: set[int] | None = None  # None until MLflow has answered
        self._waiting: deque[tuple[EpochResult, int]] = deque()
        self._sender: threading.Thread | None = None
        self._error: Exception | None = None
        self._refusal: Exception | None = None
        self._refusal_logged = False
        self._down = False

    def __call__(self, epoch: EpochResult) -> None:
        """Log one finished epoch, and those that wait; never raises for MLflow's errors."""
        # With the same time and step MLflow keeps a value once, though it comes twice.
        self._waiting.append((epoch, int(time.time() * 1000)))
        if self._is_certain():
            self._send(WAIT_WHILE_DOWN_S if self._down else WAIT_S)

    def flush(self) -> None:
        """Try once more to log what waits; logs how much is lost if that fails."""
        self._send(FLUSH_S)
        if self._waiting:
            logger().warning("%d epochs could not be logged to MLflow run %s", len(self._waiting), self._run_id)

    def _send(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        if not self._is_sending(deadline) and self._waiting:
            self._sender = threading.Thread(target=self._log_waiting, name="epochs", daemon=True)
            self._sender.start()
            self._is_sending(deadline)
        self._log_outage()

    def _is_sending(self, deadline: float) -> bool:
        """Whether a request still runs at the deadline."""
        if self._sender is None:
            return False
        self._sender.join(max(0.0, deadline - time.monotonic()))
        return self._sender.is_alive()

    def _log_waiting(self) -> None:
        try:
            if self._logged is None:
                self._logged = {
                    metric.step for metric in self._client.get_metric_history(self._run_id, EPOCH_MARKER_METRIC)
                }
            while self._waiting:
                epoch, ended = self._waiting[0]
                if epoch.number not in self._logged:
                    self._log(epoch, ended)
                    self._logged.add(epoch.number)
                self._waiting.popleft()
        except mlflow_errors() as error:
            self._error = error

    def _log(self, epoch: EpochResult, ended: int) -> None:
        metrics = {**epoch.metrics, EPOCH_MARKER_METRIC: epoch.seconds, "batch": float(epoch.batch)}
        try:
            log_batch(self._client, self._run_id, metrics, step=epoch.number, time_ms=ended)
        except mlflow_errors() as error:
            if not is_final(error):
                raise
            self._refusal = error  # left out: it would hold up those after it for ever

    def _log_outage(self) -> None:
        """Log once that an outage began, and once that it is over."""
        down = bool(self._waiting)
        if down and not self._down:
            reason = self._error or f"no answer within {WAIT_S:.0f} s"
            logger().warning("MLflow takes no epochs, they are kept for later and training goes on: %s", reason)
        elif self._down and not down:
            logger().info("MLflow takes epochs again, those that waited are logged")
            self._error = None
        if self._refusal and not self._refusal_logged:
            logger().warning("MLflow refuses an epoch, it is left out: %s", self._refusal)
            self._refusal_logged = True
        self._down = down


@contextlib.contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """Log the load of processor, memory, disk, network and GPU (with pynvml) as `system/*` while the block runs.

    A resumed run gets further steps. Never fails the block.
    """
    monitor = None
    with log_errors("the load of this machine is not logged"):
        started = _monitor(run_id)
        started.start()
        monitor = started
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()  # logs its errors itself


def _monitor(run_id: str) -> Any:  # noqa: ANN401
    client()  # sets the limits of its requests
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        """Starts again: MLflow's own ends at the first request that fails."""

        def monitor(self) -> None:
            while not self._shutdown_event.is_set():
                super().monitor()  # type: ignore[no-untyped-call]
                self._shutdown_event.wait(RESTART_S)

    server = Settings().mlflow_tracking_uri
    return Monitor(run_id, SAMPLE_S, resume_logging=True, tracking_uri=server)  # type: ignore[no-untyped-call]
