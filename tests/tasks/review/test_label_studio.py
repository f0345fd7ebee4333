"""The client of Label Studio, with answers of a server that a test makes up."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tasks.review.label_studio import LabelStudio, LabelStudioError, LabelStudioUnavailableError
from tasks.settings import Settings

Answer = Callable[[httpx.Request], httpx.Response]
RUN = "22222222-2222-2222-2222-222222222222"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], LabelStudio]:
    """Makes a client whose server answers so."""

    def make(answer: Answer) -> LabelStudio:
        def client(**options: Any) -> httpx.Client:
            return made(**options, transport=httpx.MockTransport(answer))

        made = httpx.Client
        monkeypatch.setattr(httpx, "Client", client)
        return LabelStudio(Settings(label_studio_url="http://labels/", label_studio_api_key=SecretStr("key")))

    return make


def test_without_an_address_it_says_how_to_have_one() -> None:
    with pytest.raises(LabelStudioError, match="make up REVIEW=1"):
        LabelStudio(Settings(label_studio_url=""))


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (httpx.Response(401, json={"detail": "\x1b[2J no"}), LabelStudioError, "401 of GET.*LABEL_STUDIO_API_KEY"),
        (httpx.Response(200, text="<html>"), LabelStudioError, "LABEL_STUDIO_URL"),
        (httpx.Response(200, json={"results": [{"id": "x; rm"}]}), LabelStudioError, "1.23"),
        (httpx.Response(200, json=[7]), LabelStudioError, "1.23"),
        (httpx.Response(502), LabelStudioUnavailableError, "502"),
        (httpx.ConnectError("refused"), LabelStudioUnavailableError, "http://labels"),
    ],
)
def test_what_goes_wrong_is_told(
    tool: Callable[[Answer], LabelStudio],
    answer: httpx.Response | Exception,
    error: type[LabelStudioError],
    match: str,
) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Token key"
        if isinstance(answer, Exception):
            raise answer
        return answer

    with tool(respond) as client, pytest.raises(error, match=match) as raised:
        client.find_project(RUN)
    assert raised.value.transient is issubclass(error, LabelStudioUnavailableError)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    ("finished", "skipped", "tasks", "is_open"),
    [
        (1, 0, [(1, 0), (0, 0)], True),
        (1, 1, [(1, 0), (0, 1)], False),
        (1, 1, [(1, 1), (0, 0)], True),  # one image was skipped, and submitted after that
    ],
)
def test_an_image_is_open_until_somebody_has_submitted_or_skipped_it(
    tool: Callable[[Answer], LabelStudio], finished: int, skipped: int, tasks: list[tuple[int, int]], *, is_open: bool
) -> None:
    project = {"finished_task_number": finished, "skipped_annotations_number": skipped, "task_number": len(tasks)}

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/api/projects/"):
            return httpx.Response(200, json=project)
        page = int(request.url.params["page"])
        total, cancelled = tasks[page - 1]  # a page an image
        return httpx.Response(
            200,
            json={"total": len(tasks), "tasks": [{"total_annotations": total, "cancelled_annotations": cancelled}]},
        )

    with tool(respond) as client:
        assert client.has_open_tasks(1) is is_open
