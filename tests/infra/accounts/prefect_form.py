"""What Prefect's page of 3.8.8 sends when somebody fills in the form of a run."""

from typing import Any


def form_of_a_run(queue: str, job_variables: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """A new run with these parameters, of a deployment with this queue and these variables."""
    state = {"pause_reschedule": False, "deferred": False, "untrackable_result": False, "scheduled_time": None}
    return {
        "name": "a run",
        "work_queue_name": queue,
        "empirical_policy": {
            "resuming": False,
            "max_retries": 0,
            "retry_delay_seconds": 0,
            "retries": 0,
            "retry_delay": 0,
        },
        "state": {"type": "SCHEDULED", "message": "", "state_details": state},
        "tags": [],
        "job_variables": job_variables,
        "enforce_parameter_schema": True,
        "parameters": parameters,
    }
