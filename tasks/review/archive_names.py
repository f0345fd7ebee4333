"""The name of the archive that a round will make: it is taken before anybody works for it.

`review-names/<key>` in bucket `runs` is the id of the flow run that has taken the key. An upload or an import may still
come under it: they replace nothing, and are not replaced.
"""

from uuid import UUID

from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.orchestration.child_runs import read_runs
from tasks.orchestration.current_run import flow_run_id
from tasks.orchestration.step import retried_step
from tasks.orchestration.unfinished_runs import FLOW_RUN_ID
from tasks.review.rounds import ROUND, round_key
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE

_FOLDER = "review-names/"
_RUNS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE)


class ReservedNameError(StudioError):
    """Another round will make an archive of the name."""


@retried_step
def reserve_name(archive: str) -> None:
    """Take the key of an archive for this flow run, in whichever attempt.

    It is free again when the run that has taken it is completed, cancelled or deleted, or has failed before its round
    was open: answers that somebody has given to it would have no archive.

    Raises:
        ReservedNameError: Another run has it.
        StudioError: The object store or Prefect does not answer.
    """
    key, run = f"{_FOLDER}{archive}", flow_run_id()
    while not _RUNS.put_if_absent(key, run.encode()):
        if (stored := _RUNS.get_tagged(key)) is None:
            continue  # somebody has removed it a moment ago
        holder, etag = stored[0].decode(errors="replace"), stored[1]
        if holder == run:
            return
        _require_given_up(holder, archive)
        if _RUNS.replace(key, run.encode(), etag):
            return


def _require_given_up(holder: str, archive: str) -> None:
    if not FLOW_RUN_ID.fullmatch(holder):
        return
    state = read_runs([UUID(holder)]).get(UUID(holder))
    if state is None or state.completed or state.is_cancelled:
        return
    if state.has_stopped and not _RUNS.exists(round_key(holder, ROUND)):
        return
    found = f"{safe_repr(archive)}, which review {holder} will make that is {state.state}"
    other = f"go on with its answers: `studio retry {holder}`" if state.has_stopped else "cancel that run"
    raise ReservedNameError(expected_found_fix("a new name", found, f"Choose another name, or {other}."))
