"""Who still uses versions that are to be dropped: clients that ask for them, and runs of inference that hold them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from prefect import get_run_logger

from tasks.core.canary import Requests
from tasks.core.errors import StudioError
from tasks.core.served import ServedModel

ASKED_EVERY_S = 2.0
TOLD_EVERY_S = 30.0

Users = Callable[[str], Mapping[int, Sequence[str]]]  # of a model: the flow runs that hold a version, by version


def nobody(_model_name: str) -> Mapping[int, Sequence[str]]:
    """No run holds any version."""
    return {}


class Usage:
    """Watches versions of one model; `requests` counts what a version was asked, `users` names who holds it."""

    def __init__(
        self, versions: Sequence[ServedModel], users: Users, requests: Callable[[ServedModel], Requests]
    ) -> None:
        self._versions, self._users, self._requests = versions, users, requests
        self._counts: dict[int, Requests] = {}
        self._quiet_since: dict[int, float] = {}
        self._held: Mapping[int, Sequence[str]] | None = None
        self._asked, self._told = -math.inf, time.monotonic()

    def is_held(self) -> bool:
        """Whether a run holds one of the versions, or nobody could say so far."""
        return self._held is None or any(self._held.get(model.version) for model in self._versions)

    def lately(self, quiet_s: float) -> list[ServedModel]:
        """Return the versions that are held, or were held or asked within the last `quiet_s` seconds."""
        self._ask()
        now, used = time.monotonic(), []
        for model in self._versions:
            counts, held = self._requests(model), self._held is None or bool(self._held.get(model.version))
            if held or counts != self._counts.get(model.version):
                self._counts[model.version], self._quiet_since[model.version] = counts, now
            if held or now - self._quiet_since[model.version] < quiet_s:
                used.append(model)
        return used

    def _ask(self) -> None:
        now = time.monotonic()
        if not self._versions or now - self._asked < ASKED_EVERY_S:
            return
        self._asked = now
        try:
            self._held = self._users(self._versions[0].name)
        except StudioError as error:  # those who held one are taken to do so still
            get_run_logger().warning("who uses the versions of %s is not known: %s", self._versions[0].name, error)
        if self.is_held() and now - self._told >= TOLD_EVERY_S:
            self._told = now
            held = {model.version: self._held.get(model.version) for model in self._versions} if self._held else {}
            runs = "; ".join(f"version {version}: {', '.join(runs)}" for version, runs in held.items() if runs)
            get_run_logger().info("waiting for flow runs that use %s (%s)", self._versions[0].name, runs or "unknown")
