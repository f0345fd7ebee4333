"""What was left behind and the disks need not keep."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import artifacts, current_run, outcome
from tasks.parameters import CleanUpParams
from tasks.retention import steps
from tasks.retention.report import clean_up_markdown, clean_up_sentence
from tasks.retention.rules import Kind, choose, retention


@flow
@outcome.fail_flow_with_message
def clean_up(cleaning: CleanUpParams = CleanUpParams()) -> State:
    """Report what is old and belongs to nobody, and remove it unless this is a dry run.

    Nothing goes that is served, has an alias, is or was champion, is named by the lineage of something that stays, or
    belongs to a run that has not ended.
    """
    choice = choose(steps.take_stock(), retention(cleaning), current_run.now())
    artifacts.show_markdown("clean-up", clean_up_markdown(choice, cleaning))
    for kind in Kind:
        chosen = [leaving for leaving in choice.going if leaving.kind is kind]
        if chosen and not cleaning.dry_run:
            current_run.log_step("removing %d: %s", len(chosen), kind)
            steps.remove(kind, chosen)
    return outcome.completed(clean_up_sentence(choice, cleaning))
