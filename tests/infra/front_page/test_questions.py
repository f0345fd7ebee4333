"""Questions that runs ask, on the page; what an answer does to a deployment: tests/flows/test_approval.py."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Pending

from infra.stack_settings import USER, StackSettings
from tasks.deployment.approval_form import ApprovalForm
from tasks.orchestration import questions
from tests.clients import front_page
from tests.infra.browser import Page
from tests.infra.front_page.settled import SETTLED

DESCRIPTION = "**shapes** has passed. [x](javascript:alert(1)) <img src=x onerror=alert(1)>"


@flow
def ask() -> None:
    """Ask as a deployment does."""
    deadline = datetime.now(UTC) + timedelta(hours=1)
    questions.ask(ApprovalForm.model_json_schema(), DESCRIPTION, deadline)


@pytest.fixture
def run(client: SyncPrefectClient) -> Iterator[UUID]:
    """A run that waits for an answer, of a deployment without a worker."""
    deployment = client.create_deployment(client.create_flow(ask), str(uuid4()))
    run = client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(run, Pending(), force=True)
    story: Any = ask
    with pytest.raises(Pause):
        run_flow(story, flow_run=client.read_flow_run(run))
    yield run
    client.set_flow_run_state(run, Cancelled(), force=True)
    client.delete_deployment(deployment)


def response(client: SyncPrefectClient, run: UUID) -> dict[str, str]:
    (found,) = client.filter_flow_run_input(run, questions.KEYSET["response"], limit=1, exclude_keys=set())
    fields: dict[str, str] = found.decoded_value
    return fields


def test_a_question_is_shown_and_nothing_of_it_runs(stack: StackSettings, run: UUID) -> None:
    with front_page(stack) as page:
        text = page.get("/questions").raise_for_status().text
    article = next(part for part in text.split("<article") if str(run) in part)
    assert "<strong>shapes</strong> has passed." in article
    assert not re.search(r"<img|href=\"javascript", article)


def test_an_answer_needs_a_name_and_is_taken_once(stack: StackSettings, client: SyncPrefectClient, run: UUID) -> None:
    with front_page(stack) as page:
        for fields, words in (
            ({}, "Expected your name, found none"),
            ({"name": " "}, "Expected your name, found none"),
            ({"name": "x" * 101}, "Expected decision"),
            ({"name": "Ann", "comment": "x" * 2001}, "Expected decision"),
        ):
            refused = page.post(f"/questions/{run}/approve", data=fields)
            assert (refused.status_code, words in refused.text) == (400, True)
        taken = page.post(f"/questions/{run}/refuse", data={"name": "Ann", "comment": "dark & <b>"})
        assert (taken.status_code, "Refused" in taken.text) == (200, True)
        late = page.post(f"/questions/{run}/approve", data={"name": "Bob"})
        assert (late.status_code, "already answered by" in late.text) == (400, True)
        assert str(run) not in page.get("/questions").text
        assert page.post(f"/questions/{run}/approve", content=b"x" * 2**17).status_code == 413
    assert response(client, run) == {"decision": "refuse", "name": "Ann", "comment": "dark & <b>"}


@pytest.mark.parametrize("path", ["/runs", "/registered-models"])
def test_a_person_approves_in_the_browser(
    stack: StackSettings, client: SyncPrefectClient, run: UUID, browser: Page, path: str
) -> None:
    """What is half written stays while the page asks whether something has changed."""
    field = f"document.getElementById('name-{run}')"
    with browser.new_tab() as tab:
        tab.resize(1280, 900)
        tab.sign_in(f"http://127.0.0.1:{stack.live_port}{path}", USER, stack.secrets["front_page"])
        tab.wait(f"{field} !== null")
        tab.js(f"{field}.value = 'Ann Ångström'; {field}.closest('article').querySelector('.soft').textContent = 'old'")
        tab.js(
            "document.getElementById('questions').shown = ''; document.body.dispatchEvent(new Event('studio:changed'))"
        )
        tab.wait(f"{field}.closest('article').querySelector('.soft').textContent !== 'old'")
        tab.wait(SETTLED)
        assert tab.js(f"{field}.value") == "Ann Ångström"
        tab.js(f"{field}.closest('fieldset').querySelector('.main').click()")
        tab.wait("document.getElementById('changed').innerText.startsWith('Approved')")
        tab.wait(f"{field} === null", 5)
    assert response(client, run) == {"decision": "approve", "name": "Ann Ångström", "comment": ""}
