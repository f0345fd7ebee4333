"""An archive that nobody needs any more."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deletion import archives, journal
from tasks.deletion.report import deletion_markdown, deletion_sentence
from tasks.orchestration import artifacts, events, outcome
from tasks.parameters import DeletableArchive, Force


@flow
@outcome.fail_flow_with_message
def delete_dataset(archive: DeletableArchive, force: Force = False) -> State:
    """Delete an archive of bucket `datasets`; its reports and its lineage stay.

    The run fails if a registered version was trained on the archive, if an unfinished run reads it, or if another
    archive takes its place meanwhile, which stays.
    """
    deletion = journal.begun_deletion() or archives.find_archive(archive)
    if archives.archive_is_there(deletion):
        archives.require_unused_archive(deletion, force)
        journal.begin(deletion)
    archives.remove_archive(deletion)
    tombstone = deletion.tombstone
    journal.finish(deletion, events.dataset(str(tombstone.digest), tombstone.name))
    artifacts.show_markdown("deletion", deletion_markdown(tombstone))
    return outcome.completed(deletion_sentence(tombstone))
