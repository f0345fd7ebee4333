"""Results of a run of inference that nobody needs any more."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deletion import journal, predictions
from tasks.deletion.report import deletion_markdown, deletion_sentence
from tasks.orchestration import artifacts, events, outcome
from tasks.parameters import DeletableRun, Force


@flow
@outcome.fail_flow_with_message
def delete_predictions(run: DeletableRun, force: Force = False) -> State:
    """Delete the folder of a run of inference in bucket `predictions`; its run in MLflow stays.

    The run fails if that run has not ended.
    """
    deletion = journal.begun_deletion()
    if deletion is None:
        deletion = predictions.find_predictions(run)
        predictions.require_ended_run(deletion, force)
        journal.begin(deletion)
    predictions.remove_predictions(deletion)
    journal.finish(deletion, events.prediction(deletion.name))
    artifacts.show_markdown("deletion", deletion_markdown(deletion.tombstone))
    return outcome.completed(deletion_sentence(deletion.tombstone))
