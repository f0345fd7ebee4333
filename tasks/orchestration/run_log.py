"""What of Prefect's own lines belongs into the log of a run that people read."""

import logging

from tasks.errors import StudioError

ENGINES = {"flow_engine", "task_engine"}  # Prefect's modules that tell of their own doings
ROUTINE = ("Created task run", "Finished in state", "Engine execution exited")  # the reason was told before


class EngineNoiseFilter(logging.Filter):
    """Leaves out what Prefect's engines say of each task run, and what a person can act on is told once, at the end.

    A task that is tried again stays in the log, in words; so does everything about a defect, with its traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line stays; one about another attempt is put into words."""
        if record.module not in ENGINES:
            return True
        if record.exc_info and isinstance(record.exc_info[1], StudioError):
            return False
        if isinstance(record.args, tuple) and len(record.args) == 5 and "Retry %s/%s" in str(record.msg):
            _, error, number, most, when = record.args
            record.msg, record.args = "%s Attempt %s of %s follows %s.", (error, number, most, when)
        return not str(record.msg).startswith(ROUTINE)
