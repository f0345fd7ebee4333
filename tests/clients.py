"""Clients of the services, and those that ask while something else happens."""

import functools
import ssl
import threading
from abc import ABC, abstractmethod
from typing import Self

import httpx

from infra.front_page.access import TOKEN_HEADER, token
from infra.stack_settings import USER, StackSettings


@functools.cache
def _tls() -> ssl.SSLContext:
    """Of all clients: to read the certificates for each takes 20 ms, and none is looked at here."""
    return ssl.create_default_context()


def prefect_api(stack: StackSettings) -> httpx.Client:
    """Prefect's API with its password, as curl uses it."""
    user, _, password = stack.environment["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(base_url=stack.environment["PREFECT_API_URL"], auth=(user, password), timeout=30, verify=_tls())


def pause_schedules(stack: StackSettings) -> None:
    """Have no run begin that no test has started, by the clock or after an inference."""
    with prefect_api(stack) as api:
        for automation in api.post("/automations/filter", json={}).raise_for_status().json():
            if automation["name"].startswith("monitor-model/each-model-daily "):
                api.patch(f"/automations/{automation['id']}", json={"enabled": False}).raise_for_status()
        for deployment in api.post("/deployments/filter", json={}).raise_for_status().json():
            for schedule in deployment["schedules"]:
                address = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
                api.patch(address, json={"active": False}).raise_for_status()


def mlflow_api(stack: StackSettings) -> httpx.Client:
    """MLflow's server with its password, as curl uses it."""
    user, password = (stack.environment[f"MLFLOW_TRACKING_{name}"] for name in ("USERNAME", "PASSWORD"))
    return httpx.Client(
        base_url=stack.environment["MLFLOW_TRACKING_URI"], auth=(user, password), timeout=30, verify=_tls()
    )


def front_page(stack: StackSettings) -> httpx.Client:
    """The front page with its password and its token, as its own pages use it."""
    password = stack.secrets["front_page"]
    headers = {TOKEN_HEADER: token(password)}
    address = f"http://127.0.0.1:{stack.live_port}"
    return httpx.Client(base_url=address, auth=(USER, password), headers=headers, timeout=30, verify=_tls())


class Clients(ABC):
    """`count` threads that go through `run` from the beginning of a block to its end: it returns once `stop` is set."""

    def __init__(self, count: int) -> None:
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=self.run) for _ in range(count)]

    @abstractmethod
    def run(self) -> None:
        """What each of them does."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
