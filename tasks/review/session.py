"""A round of review that goes on: the run of inference that it starts, and people who take their time.

While people answer, the run is suspended and holds no place of a worker. `infra/patrol.py` resumes it when each image
was submitted or skipped, or when the time is over: Label Studio refuses to call addresses of this machine, CVAT may not
reach them, and what counts is read from their APIs anyway. The front page resumes it by itself.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

from tasks.inference.image_lists import OF_REVIEW, named_run
from tasks.orchestration import artifacts, events
from tasks.orchestration.awaited_runs import AwaitedRuns
from tasks.orchestration.current_run import flow_run_id, flow_run_name, log_step
from tasks.orchestration.deployed_flows import resume
from tasks.orchestration.flow_runs import call_when_cancelled, may_continue
from tasks.orchestration.run_history import begun_at
from tasks.orchestration.suspension import can_be_suspended, suspend
from tasks.parameters import InferenceParams, ReviewParams
from tasks.review import steps
from tasks.review.answers import Answers
from tasks.review.changes import Change, ReviewTotals
from tasks.review.deadlines import expiry_of
from tasks.review.report import waiting_markdown
from tasks.review.rounds import Round, ToolName

POLL_S = 2.0


class ReviewSession:
    """The round of one flow run; each part of it is done once, whatever attempt of the run it is."""

    def __init__(self, model_name: str, review: ReviewParams) -> None:
        self._model_name = model_name
        self._review = review
        self.run = flow_run_id()
        self._deadline = begun_at() + timedelta(days=review.max_wait_d)
        self._runs = AwaitedRuns(tags=[OF_REVIEW])
        self._may_continue = may_continue()

    def open_round(self, inputs: Sequence[str], folder: Path) -> Round:
        """Return the images that a person is asked about, with the suggestions of the model.

        Raises:
            Pause: The run of inference is suspended: this one is, too, and goes on from its beginning.
            NothingToReviewError: Nothing can be reviewed.
            StudioError: The inference failed, or a service refuses.
        """
        kept = steps.open_round(self.run)
        if kept is not None:
            return kept
        listed = named_run(inputs[0]) if len(inputs) == 1 else None
        if listed:
            steps.require_listed_images(listed)
        predictions = steps.find_predictions(listed, self._model_name, self._review.confidence) if listed else None
        if listed is None or predictions is None:
            listed = predictions = self._predict(inputs)
        log_step("keeping the images and the suggestions of run %s", predictions)
        return steps.prepare_round(self.run, self._model_name, predictions, listed, self._review, folder)

    def ask_people(self, review: Round, folder: Path) -> None:
        """Return when people have answered about each image, or when the time is over.

        Args:
            review: The round.
            folder: For the images, on their way into the tool.

        Raises:
            Pause: Images are open: the run is suspended, and goes on from its beginning.
            StudioError: The tool or Prefect refuses.
        """
        page = steps.show_round(self.run, f"{flow_run_name()}: {self._model_name}", review, folder)
        artifacts.show_markdown("review", waiting_markdown(review, page, self._deadline), "Where people review")
        self._announce(review, page)
        while (answers := steps.read_answers(self.run, review)).still_open and datetime.now(UTC) < self._deadline:
            waits = f"Waits until there is an answer about {answers.still_open:,} more images: {page}"
            log_step("%s", waits)
            if can_be_suspended():
                then = partial(self._go_on_if_answered, review)
                suspend(waits, until=expiry_of(self._deadline), place=review.tool, then=then)
            time.sleep(POLL_S)
            self._may_continue()

    def _go_on_if_answered(self, review: Round) -> None:
        """Resume the run if the last answer came before it was suspended: the page found nothing to resume then."""
        if review.tool is ToolName.FRONT_PAGE and not steps.read_answers.fn(self.run, review).still_open:
            resume(UUID(self.run))

    def cancel(self) -> None:
        """Cancel the run of inference that this one has started."""
        self._runs.cancel()

    def _predict(self, inputs: Sequence[str]) -> str:
        """Return the run that has predicted on the inputs with the champion, which is started once."""
        inference = InferenceParams(confidence=self._review.confidence, annotate=False)
        parameters = {"model_name": self._model_name, "inputs": list(inputs), "inference": inference}
        return str(self._runs.do("suggest", "run-inference", parameters, "suggest").id)

    def announce(self, archive: str, digest: str, review: Round, answers: Answers, totals: ReviewTotals) -> None:
        """Emit `review.finished` about the archive of this key and SHA-256, once."""
        self._announce_end(events.dataset(digest, archive), archive, digest, review, answers, totals)

    def announce_nothing(self, review: Round, answers: Answers) -> None:
        """Emit `review.finished` about a round without an archive, once: who has heard that it began waits for it."""
        self._announce_end(events.review(self.run), "", "", review, answers, ReviewTotals())

    def _announce_end(
        self,
        about: events.Resource,
        archive: str,
        digest: str,
        review: Round,
        answers: Answers,
        totals: ReviewTotals,
    ) -> None:
        events.emit(
            events.REVIEW_FINISHED,
            about,
            payload={
                "archive": archive,
                "digest": digest,
                "model": review.model_name,
                "version": review.model_version,
                "run": self.run,
                "images": totals.images,
                "labels": totals.labels,
                "drawn": totals.drawn,
                "changes": {change.value: totals.changes[change] for change in Change},
                "skipped": answers.skipped,
                "set_aside": answers.set_aside,
            },
            key=self.run,
            related=[events.model(review.model_name), events.version(review.model_name, review.model_version)],
        )

    def _announce(self, review: Round, page: str) -> None:
        events.emit(
            events.REVIEW_WANTED,
            events.review(self.run),
            payload={
                "model": self._model_name,
                "version": review.model_version,
                "run": self.run,
                "images": len(review.images),
                "page": page,
            },
            key=self.run,
            related=[events.model(self._model_name), events.version(self._model_name, review.model_version)],
        )


@contextmanager
def review_session(model_name: str, review: ReviewParams) -> Iterator[ReviewSession]:
    """Yield the session of this flow run; if the run is cancelled, so is the inference that it has started."""
    session = ReviewSession(model_name, review)
    with call_when_cancelled(session.cancel):
        yield session
