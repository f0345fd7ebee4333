"""What a person says on the page of a round; with a browser: tests/infra/front_page/test_reviews.py."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from tasks.orchestration.child_runs import RunState
from tasks.review import own_page, standings
from tasks.review.answers import ReviewTask
from tasks.review.own_page import FrontPageTool, OtherToolError, PageAnswer, read_answer
from tasks.review.rounds import ANSWERS, CLOSED, PAGE, Round, ToolName, pack_round
from tasks.review.standings import AnswerError
from tests.tasks.review.rounds import CLASS_NAMES, ROWS, review_round

RUN = str(uuid4())


def running(run: UUID) -> RunState:
    now = datetime.now(UTC)
    return RunState(id=run, name="gray-emu", type=StateType.RUNNING, state="", message="", since=now, began=now)


class Bucket:
    """The part of an object store that a round needs, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, content_type: str) -> None:
        assert content_type == "application/json"
        self.objects[key] = data

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def read_text(self, key: str) -> str:
        return self.objects[key].decode()

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    bucket = Bucket()
    for module in (own_page, standings):
        monkeypatch.setattr(module, "_RUNS", bucket)
    monkeypatch.setattr(standings, "read_runs", lambda runs: {run: running(run) for run in runs})
    return bucket


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("task", ROWS)
def test_what_is_kept_comes_back_with_its_class_and_what_is_refused_does_not(task: str) -> None:
    review = review_round(task, "a.jpg", "b.jpg", "c.jpg")
    own_page.keep_answer(RUN, review, 0, PageAnswer(verdict="done", kept={"0": CLASS_NAMES[1]}, seconds=2.5))
    own_page.keep_answer(RUN, review, 2, PageAnswer(verdict="set_aside"))
    first, unanswered, set_aside = FrontPageTool().read(RUN, review)
    (annotation,) = json.loads(first.submitted or "")["annotations"]
    objects = [each for each in annotation["result"] if each["from_name"] == "label"]
    assert [each["value"][each["type"]] for each in objects] == [[CLASS_NAMES[1]]]
    assert {each.get("parentID", each["id"]) for each in annotation["result"]} == {"suggestion-0"}
    assert first.seconds == 2.5
    assert (unanswered, set_aside) == (ReviewTask(entry="b.jpg"), ReviewTask(entry="c.jpg", set_aside=True))
    assert own_page.list_answered(RUN, review) == [True, False, True]


def test_a_later_answer_replaces_an_earlier_one_and_an_image_with_nothing_on_it_is_an_answer(bucket: Bucket) -> None:
    review = review_round("detect", "a.jpg")
    own_page.keep_answer(RUN, review, 0, PageAnswer(verdict="skipped"))
    own_page.keep_answer(RUN, review, 0, PageAnswer(verdict="done"))
    (task,) = FrontPageTool().read(RUN, review)
    given = json.loads(task.submitted or "")["annotations"]
    assert (task.skipped, [each["result"] for each in given]) == (False, [[]])
    assert (len(bucket.objects), own_page.list_answered(RUN, review)) == (1, [True])


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("kept", [{"2": "cell"}, {"-1": "cell"}, {"0": "nobody's class"}])
def test_an_answer_about_what_is_not_there_is_refused(kept: dict[str, str]) -> None:
    with pytest.raises(AnswerError, match="Reload"):
        own_page.keep_answer(RUN, review_round("detect", "a.jpg"), 0, PageAnswer(verdict="done", kept=kept))


def _keep_round(bucket: Bucket, review: Round) -> str:
    run = str(uuid4())
    bucket.objects[f"{run}/review/round.json"] = pack_round(review)
    return run


@pytest.mark.parametrize("tool", [ToolName.LABEL_STUDIO, ToolName.CVAT])
def test_a_round_in_another_tool_is_refused_with_the_address_of_its_page(bucket: Bucket, tool: ToolName) -> None:
    """What is answered on this page nobody would read."""
    run = _keep_round(bucket, review_round("detect", "a.jpg", tool=tool))
    with pytest.raises(OtherToolError, match="artifact `review`"):
        own_page.read_round(run)
    bucket.objects[f"{run}/review/{PAGE}"] = b"http://elsewhere/7"
    with pytest.raises(OtherToolError, match=f"found one in {tool}. Answer there: http://elsewhere/7"):
        own_page.read_round(run)


@pytest.mark.parametrize("name", [ANSWERS, CLOSED])
def test_an_answer_that_the_archive_would_lack_is_refused(bucket: Bucket, name: str) -> None:
    review = review_round("detect", "a.jpg", tool=ToolName.FRONT_PAGE)
    run = _keep_round(bucket, review)
    assert own_page.read_round(run) == review
    bucket.objects[f"{run}/review/{name}"] = b""
    with pytest.raises(AnswerError, match="found one whose archive is being made"):
        own_page.keep_answer(run, review, 0, PageAnswer(verdict="done"))
    assert own_page.list_answered(run, review) == [False]


def test_who_answers_while_the_archive_is_begun_hears_that_it_may_be_too_late(bucket: Bucket) -> None:
    review = review_round("detect", "a.jpg", tool=ToolName.FRONT_PAGE)
    put = bucket.put

    def put_late(key: str, data: bytes, content_type: str) -> None:
        bucket.objects[f"{RUN}/review/{CLOSED}"] = b""
        put(key, data, content_type)

    bucket.put = put_late  # type: ignore[method-assign]
    with pytest.raises(AnswerError, match="found one whose archive is being made"):
        own_page.keep_answer(RUN, review, 0, PageAnswer(verdict="done"))


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("is_begun", [False, True])
def test_an_answer_to_a_run_that_was_cancelled_is_refused_also_if_that_was_a_moment_ago(
    monkeypatch: pytest.MonkeyPatch, is_begun: bool
) -> None:
    """One rule says so, for the page and for what is kept."""
    review = review_round("detect", "a.jpg", tool=ToolName.FRONT_PAGE)
    types = iter([*([StateType.PAUSED] if is_begun else []), StateType.CANCELLED])
    state = running(UUID(RUN))
    monkeypatch.setattr(standings, "read_runs", lambda _: {state.id: replace(state, type=next(types))})
    with pytest.raises(AnswerError, match="takes answers, found one whose run was cancelled"):
        own_page.keep_answer(RUN, review, 0, PageAnswer(verdict="done"))
    assert own_page.list_answered(RUN, review) == [is_begun]


def test_an_image_that_was_set_aside_under_the_word_of_an_earlier_release_stays_so(bucket: Bucket) -> None:
    bucket.objects[f"review-answers/{RUN}/0.json"] = b'{"verdict": "incomplete", "kept": {}, "annotations": []}'
    (task,) = FrontPageTool().read(RUN, review_round("detect", "a.jpg"))
    assert (task.set_aside, own_page.find_answer(RUN, 0)) == (
        True,
        {"verdict": "set_aside", "kept": {}, "annotations": []},
    )


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b"\xff", b'{"verdict": "perhaps"}', b'{"verdict": "done", "seconds": 1e999}'),
        *(b'{"verdict": "done", "kept": {"0": 1}}', b'{"verdict": "done", "more": 1}'),
        json.dumps({"verdict": "done", "kept": dict.fromkeys(map(str, range(10_001)), "cell")}).encode(),
    ],
)
def test_a_body_that_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerError, match="the answer about an image"):
        read_answer(body)
