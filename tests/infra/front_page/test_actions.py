"""Dialogs of the front page start the runs that they show, and nothing starts without a person."""

import json
from uuid import uuid4

import httpx
import pytest

from infra.front_page.access import TOKEN_HEADER
from infra.stack_settings import USER, StackSettings
from tests.clients import front_page, prefect_api
from tests.infra.browser import Page


def runs_of(stack: StackSettings, parameters: dict[str, object]) -> list[dict[str, object]]:
    with prefect_api(stack) as api:
        newest = api.post("/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 100}).json()
    return [run for run in newest if run["parameters"] == parameters]


def test_a_dialog_is_filled_with_what_the_button_says(stack: StackSettings) -> None:
    with front_page(stack) as page:
        dialog = page.get("/start/train-model", params={"archives": ["a.zip", "<b>.zip"], "training.epochs": 3}).text
    assert "a.zip\n&lt;b&gt;.zip</textarea>" in dialog
    assert 'name="training.epochs" value="3"' in dialog
    assert "studio train --set training.epochs=3 a.zip &#39;&lt;b&gt;.zip&#39;" in dialog
    assert "/create_flow_run" in dialog


def test_a_form_that_is_sent_twice_starts_one_run(stack: StackSettings) -> None:
    parameters = {"model_name": f"absent-{uuid4().hex[:8]}"}
    with front_page(stack) as page:
        address = f"/start/undeploy-model?key={parameters['model_name']}"
        answer, _ = (page.post(address, data=parameters) for _ in "12")
        other = {"model_name": f"{parameters['model_name']}-other"}
        page.post(address, data=other)
    assert "A run of undeploy-model was started" in answer.text
    assert json.loads(answer.headers["HX-Trigger"]) == {"studio:started": True}
    assert [len(runs_of(stack, dict(each))) for each in (parameters, other)] == [1, 1]


def test_of_what_prefect_refuses_field_and_reason_are_said(stack: StackSettings) -> None:
    with front_page(stack) as page:
        form = {"model_name": "m", "archives": "a.zip", "training.epochs": "-1"}
        answer = page.post("/start/train-model", data=form)
        other = page.post("/start/no-such-flow", data={})
    assert (answer.status_code, ">training.epochs: -1 is less than the minimum of 1<" in answer.text) == (400, True)
    assert (other.status_code, "Expected one of the flows" in other.text) == (404, True)


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_nothing_starts_without_the_token(stack: StackSettings, token: str) -> None:
    parameters = {"model_name": f"absent-{uuid4().hex[:8]}"}
    with front_page(stack) as page:
        answer = page.post("/start/undeploy-model", data=parameters, headers={TOKEN_HEADER: token})
        by_get = page.get("/start/undeploy-model", params=parameters)
    assert (answer.status_code, by_get.status_code) == (403, 200)
    assert runs_of(stack, dict(parameters)) == []


def test_a_stranger_gets_nothing_but_the_live_page(stack: StackSettings) -> None:
    address = f"http://127.0.0.1:{stack.live_port}"
    with front_page(stack) as page:
        token = page.headers[TOKEN_HEADER]
    for auth in (None, (USER, "x"), ("x", stack.secrets["front_page"])):
        assert httpx.get(f"{address}/start/train-model", auth=auth).status_code == 401
        live = httpx.get(f"{address}/live", auth=auth)
        assert (live.status_code, token in live.text) == (200, False)


def test_a_person_sees_the_command_change_and_starts_the_run(stack: StackSettings, browser: Page) -> None:
    name = f"absent-{uuid4().hex[:8]}"
    with browser.new_tab() as page:
        page.sign_in(f"http://127.0.0.1:{stack.live_port}/start/", USER, stack.secrets["front_page"])
        page.js("htmx.ajax('GET', '/start/undeploy-model', { target: '#dialog' }); 0")
        page.wait("document.querySelector('#dialog').open")
        page.js("document.querySelector('[name=model_name]').focus()")
        page.call("Input.insertText", text=name)
        page.wait(f"document.querySelector('#parameters').textContent.includes('studio undeploy {name}')")
        page.js("document.querySelector('#dialog footer .main').click()")
        page.wait("document.querySelector('.started') !== null")
        assert page.js("document.querySelector('#dialog [name=model_name]')") is None, "the form cannot be sent again"
        page.js("document.querySelector('#dialog footer [data-close]').click()")
        assert not page.js("document.querySelector('#dialog').open")
    assert len(runs_of(stack, {"model_name": name})) == 1
