"""A session of review without a server; with one: tests/flows/test_review_images.py."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest
from prefect.exceptions import Pause

from tasks.inference.image_lists import OF_REVIEW
from tasks.orchestration import artifacts, events
from tasks.parameters import ReviewParams
from tasks.review import session, steps
from tasks.review.answers import Answers
from tasks.review.rounds import ToolName
from tasks.review.session import ReviewSession
from tests.tasks.review.rounds import review_round

RUN = uuid4()


@pytest.mark.parametrize(
    ("tool", "open_then", "resumed"),
    [(ToolName.FRONT_PAGE, 0, [RUN]), (ToolName.FRONT_PAGE, 1, []), (ToolName.LABEL_STUDIO, 0, [])],
)
def test_a_last_answer_just_before_the_run_is_suspended_has_it_go_on(
    tool: ToolName, open_then: int, resumed: list[UUID], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page found nothing to resume yet; other tools are asked each minute."""
    told: list[UUID] = []
    logged: list[str] = []
    open_images = iter([1, open_then])

    def suspend(*_: object, then: Callable[[], None], **__: object) -> None:
        then()
        raise Pause

    def read_answers(*_: object) -> Answers:
        return Answers(submitted={}, seconds={}, skipped_entries=(), still_open=next(open_images))

    class Session(ReviewSession):
        def __init__(self) -> None:
            self.run, self._model_name = str(RUN), "cells"
            self._deadline = datetime.now(UTC) + timedelta(days=1)

        def _announce(self, *_: Any) -> None:
            pass

    monkeypatch.setattr(steps, "read_answers", Mock(side_effect=read_answers, fn=read_answers))
    monkeypatch.setattr(steps, "show_round", lambda *_: "http://page")
    monkeypatch.setattr(artifacts, "show_markdown", lambda *_: None)
    monkeypatch.setattr(session, "flow_run_name", lambda: "gray-emu")
    monkeypatch.setattr(session, "can_be_suspended", lambda: True)
    monkeypatch.setattr(session, "suspend", suspend)
    monkeypatch.setattr(session, "resume", told.append)
    monkeypatch.setattr(session, "log_step", lambda text, *words: logged.append(text % words))
    with pytest.raises(Pause):
        Session().ask_people(review_round("detect", "a.jpg", tool=tool), tmp_path)
    assert told == resumed
    assert logged == ["Waits until there is an answer about 1 more images: http://page"]


def test_the_run_of_inference_that_a_review_starts_is_known_as_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A mock stands for the runs that it starts."""
    runs = Mock()
    runs.return_value.do.return_value.id = RUN
    monkeypatch.setattr(session, "AwaitedRuns", runs)
    monkeypatch.setattr(session, "begun_at", lambda: datetime.now(UTC))
    monkeypatch.setattr(session, "may_continue", Mock())
    monkeypatch.setattr(session, "flow_run_id", lambda: "review")
    monkeypatch.setattr(session, "log_step", Mock())
    monkeypatch.setattr(steps, "open_round", lambda _: None)
    monkeypatch.setattr(steps, "prepare_round", lambda *given: given)
    asked: Any = ReviewSession("cells", ReviewParams()).open_round(["street/"], tmp_path)
    assert asked[2:4] == (str(RUN), str(RUN))
    assert runs.call_args.kwargs == {"tags": [OF_REVIEW]}


def test_whoever_has_heard_that_people_are_needed_hears_that_nothing_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An automation that waits for the second event of the pair would wait for ever."""
    emitted: list[tuple[str, str, Mapping[str, Any]]] = []

    class Session(ReviewSession):
        def __init__(self) -> None:
            self.run = str(RUN)

    def emit(kind: str, about: events.Resource, *, payload: Mapping[str, Any], **_: Any) -> None:
        assert payload.keys() == events.EVENTS[kind].payload.keys()
        emitted.append((kind, about.id, payload))

    monkeypatch.setattr(events, "emit", emit)
    answers = Answers(submitted={}, seconds={}, skipped_entries=("a.jpg",), set_aside_entries=("b.jpg",), still_open=0)
    Session().announce_nothing(review_round("detect", "a.jpg", "b.jpg"), answers)
    ((kind, about, payload),) = emitted
    assert (kind, about) == ("review.finished", f"review:{RUN}")
    counted = {name: payload[name] for name in ("archive", "images", "labels", "drawn", "skipped", "set_aside")}
    assert counted == {"archive": "", "images": 0, "labels": 0, "drawn": 0, "skipped": 1, "set_aside": 1}
