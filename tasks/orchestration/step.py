"""Steps of flows: Prefect tasks without a cache, tried again if their service may answer later."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.errors import StudioError
from tasks.orchestration.retries import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
SERVICE_RESTART = RetryPolicy(attempts=7, first_s=5.0, factor=2.5, longest_s=60.0)  # 4 minutes in all


def step(function: Callable[P, R]) -> Task[P, R]:
    """Return a step that is tried once: `function.fn` is the plain function."""
    return task(cache_policy=NO_CACHE)(function)


def retried_step(function: Callable[P, R]) -> Task[P, R]:
    """Return a step that is tried for 4 minutes while its service does not answer."""
    return retried(step(function))


def retried(once: Task[P, R]) -> Task[P, R]:
    """Return the same step, tried like a `retried_step`."""
    pauses = list(SERVICE_RESTART.pauses())
    return once.with_options(retries=len(pauses), retry_delay_seconds=pauses, retry_condition_fn=_is_transient_failure)


def _is_transient_failure(_task: object, _run: object, state: State[Any]) -> bool:
    return isinstance(state.data, StudioError) and state.data.transient
