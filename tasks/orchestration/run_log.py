"""Which of Prefect's own lines stay in the log of a run."""

import logging

from tasks.errors import StudioError

ENGINES = {"flow_engine", "task_engine"}  # Prefect's modules
ROUTINE = ("Created task run", "Finished in state", "Engine execution exited")
BEGINNING = (
    "Downloading flow code",
    "Running 1 deployment pull step",
    "Executing deployment step",
    "Deployment step ",
    "All deployment steps",
    "Beginning flow run",
    "View at ",
)


def is_routine(logger: str, level: int, text: str) -> bool:
    """Return whether Prefect's worker, or its engine before a flow begins, says this line of every run."""
    of_worker = logger.startswith("prefect.flow_runs.")
    return level < logging.WARNING and (of_worker or text.startswith(BEGINNING))


class EngineNoiseFilter(logging.Filter):
    """Drops routine lines of Prefect's engines, and StudioErrors, which the end of the run says once.

    Retries of a task stay, in plain words, and so do defects with their traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line stays; one about a retry is rewritten."""
        if record.module not in ENGINES:
            return True
        if record.exc_info and isinstance(record.exc_info[1], StudioError):
            return False
        if isinstance(record.args, tuple) and len(record.args) == 5 and "Retry %s/%s" in str(record.msg):
            record.msg = "%s Attempt %s of %s follows %s."
            record.args = record.args[1:]
        return not str(record.msg).startswith(ROUTINE)
