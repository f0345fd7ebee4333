"""A version of a model that nobody needs any more."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deletion import journal, versions
from tasks.deletion.report import deletion_markdown, deletion_sentence
from tasks.orchestration import artifacts, events, outcome
from tasks.parameters import DeletableVersion, Force, ModelName
from tasks.tracking import owners


@flow
@outcome.fail_flow_with_message
def delete_version(model_name: ModelName, version: DeletableVersion, force: Force = False) -> State:
    """Delete a version from the registry, with its weights and its graph; its run in MLflow and its lineage stay.

    The run fails for the champion, the challenger, the champion to go back to, and a version that is served. Of
    people who came by the front door, the owner of the model and admins may.
    """
    owners.require_owner(model_name)
    with versions.model_lock(model_name):
        deletion = journal.begun_deletion() or versions.find_version(model_name, version)
        if versions.version_is_there(deletion):
            versions.require_unused_version(deletion, force)
            journal.begin(deletion)
            versions.remove_version(deletion)
    journal.finish(deletion, events.version(model_name, version))
    artifacts.show_markdown("deletion", deletion_markdown(deletion.tombstone))
    return outcome.completed(deletion_sentence(deletion.tombstone))
