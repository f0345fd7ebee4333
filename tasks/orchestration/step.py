"""What a step of a flow is: a Prefect task without a cache, tried again if its service may answer later."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks.errors import StudioError

P = ParamSpec("P")
R = TypeVar("R")


def is_transient_failure(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether what failed may succeed a little later."""
    return isinstance(state.data, StudioError) and state.data.transient


# 4 minutes are enough for a server to be started again.
_RETRY: dict[str, Any] = {
    "retries": 6,
    "retry_delay_seconds": [5, 15, 30, 60, 60, 60],
    "retry_condition_fn": is_transient_failure,
}


def step(function: Callable[P, R]) -> Task[P, R]:
    """A step that is done once: `function.fn` is the plain function."""
    return task(cache_policy=NO_CACHE)(function)


def retried_step(function: Callable[P, R]) -> Task[P, R]:
    """A step on which hours of work may hang: a service that does not answer is tried for 4 minutes."""
    return retried(step(function))


def retried(once: Task[P, R]) -> Task[P, R]:
    """The same step, tried for 4 minutes as `retried_step` is."""
    return once.with_options(**_RETRY)
