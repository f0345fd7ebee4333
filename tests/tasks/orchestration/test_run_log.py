"""Which lines of Prefect's engines stay in the log of a run."""

import logging

import pytest

from tasks.errors import StudioError
from tasks.orchestration.run_log import EngineNoiseFilter


def line(message: str, *values: object, of: str = "task_engine", error: Exception | None = None) -> logging.LogRecord:
    found = (type(error), error, None) if error else None
    return logging.LogRecord("prefect.task_runs", logging.INFO, f"/prefect/{of}.py", 1, message, values, found)


@pytest.mark.parametrize(
    ("record", "stays"),
    [
        (line("Finished in state Completed()"), False),
        (line("Finished in state Failed('why')", of="flow_engine"), False),
        (line("Created task run 'a-1' for task 'a'"), False),
        (line("Task run failed with exception", error=StudioError("why")), False),
        (line("Engine execution exited with unexpected exception", of="flow_engine", error=ValueError("why")), False),
        (line("Encountered exception during execution", of="flow_engine", error=ValueError("a defect")), True),
        (line("Task run failed with exception", error=ValueError("a defect")), True),
        (line("checking a.zip", of="reporting"), True),
        (line("Finished in state of mind", of="reporting"), True),
        (line("the store does not answer", of="steps", error=StudioError("why")), True),
    ],
    ids=lambda value: value.getMessage() if isinstance(value, logging.LogRecord) else "",
)
def test_steps_and_defects_stay_and_routine_goes(record: logging.LogRecord, stays: bool) -> None:
    assert EngineNoiseFilter().filter(record) is stays


def test_another_attempt_is_put_into_words() -> None:
    prefects = "Task run failed with %s: %r - Retry %s/%s will start %s"
    again = line(prefects, "exception", StudioError("No answer."), 2, 6, "15 second(s) from now")
    assert EngineNoiseFilter().filter(again)
    assert again.getMessage() == "No answer. Attempt 2 of 6 follows 15 second(s) from now."
