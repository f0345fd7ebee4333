"""A flow run in the hands of a script: its state, its log, its end, and what it has left."""

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from studio.connection import connect
from tasks.errors import StudioError, safe_repr

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv
    from prefect.client.schemas.objects import State

    from tasks.orchestration.deployed_flows import LogLine
    from tasks.orchestration.questions import OpenQuestion

_NO_FRAME = -1


class RunFailedError(StudioError):
    """A flow run has ended, and not well; the message is that of its state."""


class Run:
    """A flow run, by its id."""

    def __init__(self, run: UUID | str) -> None:
        """Raises StudioError for a text that is no id."""
        connect()
        try:
            self.id = run if isinstance(run, UUID) else UUID(run)
        except ValueError:
            found = safe_repr(run)
            raise StudioError(
                f"Expected the id of a flow run, found {found}. `studio runs` lists the newest."
            ) from None

    def __repr__(self) -> str:
        """Return the run as the call that makes it."""
        return f"{type(self).__name__}({str(self.id)!r})"

    @property
    def url(self) -> str:
        """The page of the run in the Prefect UI."""
        import os

        return f"{os.environ['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{self.id}"

    @property
    def state(self) -> "State[Any]":
        """The state of the run now."""
        from prefect.states import Pending

        from tasks.orchestration import deployed_flows

        return deployed_flows.require(self.id).state or Pending()

    @property
    def pages(self) -> dict[str, str]:
        """The pages that it has left on the front page, such as its report or evaluation: addresses by titles.

        Raises:
            StudioError: The object store cannot be reached.
        """
        from tasks.catalogue.run_pages import list_pages
        from tasks.settings import Settings

        return {title: f"{Settings().addresses.front_page}{path}" for title, path in list_pages(str(self.id)).items()}

    def wait(self, timeout_s: float | None = None, *, follow: Callable[["Run"], None] | None = None) -> Self:
        """Return the run when it has completed; `follow` is called about once a second until then.

        Raises:
            RunFailedError: It ended in another way.
            StudioError: It goes on after `timeout_s` seconds.
        """
        from tasks.orchestration import deployed_flows

        state = deployed_flows.wait(self.id, timeout_s, follow=partial(follow, self) if follow else None)
        if not state.is_completed():
            raise RunFailedError(f"{state.name}: {state.message or 'its log says more'} {self.url}")
        return self

    def logs(self, skip: int = 0) -> "list[LogLine]":
        """Return the lines of its log in order of time, without the first `skip`."""
        from tasks.orchestration import deployed_flows

        return deployed_flows.read_log(self.id, skip)

    def cancel(self) -> str:
        """Cancel the run; returns the name of its state now.

        Raises:
            StudioError: It has ended.
        """
        from tasks.orchestration import deployed_flows

        return deployed_flows.cancel(self.id)

    def retry(self) -> str:
        """Give a run that has ended back to a worker, which carries it on; returns the name of its state now.

        Raises:
            StudioError: It goes on, has completed, or a person has refused what it asked for.
        """
        from tasks.orchestration import deployed_flows

        return deployed_flows.retry(self.id)

    @property
    def question(self) -> "OpenQuestion | None":
        """What this run, or one that it waits for, asks a person; None if they ask nothing."""
        from tasks.orchestration.questions import list_open_questions
        from tasks.orchestration.suspension import awaited_run

        state = self.state
        if not state.is_paused():
            return None
        asks = awaited_run(state) or self.id
        return next((question for question in list_open_questions() if question.run == asks), None)

    @property
    def review(self) -> str | None:
        """Where people review what this run, or one that it waits for, shows them; None if they show nothing."""
        from tasks.orchestration import deployed_flows
        from tasks.orchestration.child_runs import RunState
        from tasks.orchestration.run_list import find_waiting

        waits = find_waiting([RunState.of(deployed_flows.require(self.id))]).get(self.id)
        return waits.message if waits and waits.place else None

    def answer(self, approve: bool, name: str, comment: str = "") -> None:
        """Approve or refuse the version that this deployment asks about; `name` is that of the person.

        Raises:
            StudioError: It does not wait for approval (any more), or name or comment is too long or empty.
        """
        from tasks.deployment import approval

        approval.answer(self.id, approve, name, comment)


class InferenceRun(Run):
    """A run of inference, with what it found."""

    def detections(self) -> "pd.DataFrame":
        """Return a row a detection, boxes in pixels of the original image; waits until the run has completed.

        Raises:
            RunFailedError: It ended in another way.
            StudioError: Its predictions are not there (any more).
        """
        import pandas as pd

        from tasks.storage.object_names import Bucket
        from tasks.storage.object_store import ObjectStore

        self.wait()
        table = ObjectStore(Bucket.PREDICTIONS).get(f"{self.id}/predictions.parquet")
        if table is None:
            raise StudioError(
                f"Expected the predictions of run {self.id}, found none: they were deleted, or it is no run of "
                "inference. `studio predictions` lists those that there are."
            )
        return pd.read_parquet(io.BytesIO(table))

    def to_supervision(self) -> "dict[tuple[str, int | None], sv.Detections]":
        """Return the detections by source and frame (None for an image), as supervision has them.

        An image in which nothing was found is not among them. Waits until the run has completed.

        Raises:
            RunFailedError: It ended in another way.
            StudioError: Its predictions are not there (any more).
        """
        import supervision as sv

        table = self.detections()
        found = {}
        for (source, frame), rows in table.groupby(["source", table["frame"].fillna(_NO_FRAME)], sort=False):
            key = str(source), None if frame == _NO_FRAME else int(str(frame).removesuffix(".0"))
            found[key] = sv.Detections(
                xyxy=rows[["x1", "y1", "x2", "y2"]].to_numpy(),
                confidence=rows["confidence"].to_numpy(),
                class_id=rows["class_id"].to_numpy(),
                data={"class_name": rows["class_name"].to_numpy(str)},
            )
        return found
