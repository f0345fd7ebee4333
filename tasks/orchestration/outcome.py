"""How a flow ends: Completed or Failed with a message, or with no state if another process has the run."""

import atexit
import contextlib
import functools
import inspect
import logging
import os
from collections.abc import Callable
from typing import ParamSpec

from prefect import get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Cancelled as CancelledState
from prefect.states import Completed, Failed

from tasks.errors import REFUSED, Cancelled, StudioError, Superseded
from tasks.files import MAKE_ROOM, is_full_disk
from tasks.log_lines import run_context
from tasks.orchestration import events
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.events import Resource
from tasks.orchestration.run_log import EngineNoiseFilter
from tasks.orchestration.step import SERVICE_RESTART
from tasks.orchestration.waiting_runs import notify_waiting_runs
from tasks.parameter_form import add_parameter_docs

P = ParamSpec("P")


NOTHING_NEW = "Nothing new"  # of a run by a schedule that had nothing to do: lists may leave it out
ENGINE_NOISE_FILTER = EngineNoiseFilter()


def fail_flow_with_message(story: Callable[P, State]) -> Callable[P, State]:
    """Return the flow so that a StudioError or a full disk ends it Failed; its message is also the log's last line.

    If a person said no, it ends Refused. If another process has taken the run over, this one ends and sets no state. A
    suspended run stays suspended.
    """

    @functools.wraps(story)
    def run(*args: P.args, **kwargs: P.kwargs) -> State:
        parameters = inspect.signature(story).bind_partial(*args, **kwargs).arguments
        with run_context(flow_run_id(), str(runtime.flow_run.flow_name), parameters):
            return _end_with_message(story, *args, **kwargs)

    run.__doc__ = add_parameter_docs(story)
    return run


def _end_with_message(story: Callable[P, State], *args: P.args, **kwargs: P.kwargs) -> State:
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(ENGINE_NOISE_FILTER)
    try:
        with notify_waiting_runs():
            state = story(*args, **kwargs)
    except StudioError as error:
        if error.declined:
            state = CancelledState(name=REFUSED, message=str(error))
        else:
            state = Failed(name=error.failed_name, message=str(error))
    except OSError as error:
        if not is_full_disk(error):
            raise
        state = Failed(message=f"{error}. {MAKE_ROOM}")
    except Pause:
        log_step("suspended: this process ends, and what it kept is there when the run is resumed")
        atexit.register(_emit_left_event, flow_run_id(), str(runtime.flow_run.flow_name))
        raise
    except (Superseded, Cancelled) as reason:
        get_run_logger().warning("%s", reason)
        os._exit(0)  # a return, an exception and any other status would all change the state of the run
    get_run_logger().log(logging.ERROR if state.is_failed() else logging.INFO, "%s: %s", state.name, state.message)
    return state


def _emit_left_event(flow_run: str, flow: str) -> None:
    """Say that this process leaves a run that has not ended: it sends no heartbeats from now on."""
    of_flow = Resource(id=f"prefect.flow.{flow}", name=flow).to_json("flow")
    event = events.build(events.RUN_LEFT, Resource(id=f"prefect.flow-run.{flow_run}", name=flow_run), [of_flow])
    with contextlib.suppress(Exception):  # Prefect's own sender of events has ended by now
        SERVICE_RESTART.call(lambda: events.post([event]))


def completed(message: str, name: str | None = None) -> State:
    """Return the state of a flow that did its work."""
    return Completed(message=message, name=name)


def failed(message: str) -> State:
    """Return the state of a flow whose work must not count as done."""
    return Failed(message=message)
