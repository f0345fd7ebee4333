"""How a flow ends: Completed or Failed with a message, or without a word if the run is no longer this process's."""

import atexit
import contextlib
import functools
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ParamSpec
from uuid import uuid4

from prefect import get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Completed, Failed

from tasks.errors import Cancelled, StudioError, Superseded
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.prefect_client import fail_fast_client
from tasks.orchestration.run_log import EngineNoiseFilter
from tasks.orchestration.waiting_runs import notify_waiting_runs
from tasks.parameter_form import add_parameter_docs

P = ParamSpec("P")


LEFT_EVENT = "studio.flow-run.left"  # the automation that looks for dead runs waits for nothing after it


STEPS_ALONE = EngineNoiseFilter()


def fail_flow_with_message(story: Callable[P, State]) -> Callable[P, State]:
    """End a flow Failed, with the reason as its message, on an error that a person can act on.

    The message of its end is the last line of the log, in which the steps are told in words. A flow run that another
    process has taken over ends without a word: its state is the other's to tell. One that is suspended stays so.
    """

    @functools.wraps(story)
    def told(*args: P.args, **kwargs: P.kwargs) -> State:
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(STEPS_ALONE)
        try:
            with notify_waiting_runs():
                ended = story(*args, **kwargs)
        except StudioError as error:
            ended = Failed(message=str(error))
        except Pause:
            log_step("suspended: this process ends, and what it kept is there when the run is resumed")
            atexit.register(_emit_left_event, flow_run_id(), str(runtime.flow_run.flow_name))
            raise
        except (Superseded, Cancelled) as reason:
            get_run_logger().warning("%s", reason)
            os._exit(0)  # a return, an exception and any other status would all change the state of the run
        get_run_logger().log(logging.ERROR if ended.is_failed() else logging.INFO, "%s: %s", ended.name, ended.message)
        return ended

    told.__doc__ = add_parameter_docs(story)
    return told


def _emit_left_event(flow_run: str, flow: str) -> None:
    """The last word of a process that leaves a run which is not over: it sends no heartbeats from now on."""
    of_flow = {
        "prefect.resource.id": f"prefect.flow.{flow}",
        "prefect.resource.role": "flow",
        "prefect.resource.name": flow,
    }
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": LEFT_EVENT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run}"},
        "related": [of_flow],
    }
    with contextlib.suppress(Exception):  # Prefect's own way to send events has come to its end by now
        fail_fast_client().request("POST", "/events", json=[event])


def completed(message: str, name: str | None = None) -> State:
    """End a flow well, with what it did as the message."""
    return Completed(message=message, name=name)


def failed(message: str) -> State:
    """End a flow that did its work but must not count as well done."""
    return Failed(message=message)
