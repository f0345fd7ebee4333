"""Archives that are new or have changed are checked without a hand."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.dataset_watch import report
from tasks.dataset_watch import steps as watch_steps
from tasks.orchestration import artifacts, outcome, run_history
from tasks.parameters import MaxChecks
from tasks.settings import Settings


@flow
@outcome.fail_flow_with_message
def watch_datasets(max_checks: MaxChecks = 200) -> State:
    """Start the check of each archive in bucket `datasets` that is new or has changed, once.

    The schedule of this deployment runs it every five minutes. An archive that has a verdict as it is now is left
    alone.
    """
    run_history.skip_missed_runs()
    found = watch_steps.survey_archives()
    started = watch_steps.start_missing_checks(found.unchecked, max_checks)
    if report.is_worth_a_report(found, started):
        artifacts.show_markdown("dataset-watch", report.watch_markdown(found, started, Settings().addresses))
    name = None if started.runs or started.refused else outcome.NOTHING_NEW
    return outcome.completed(report.watch_sentence(found, started), name)
