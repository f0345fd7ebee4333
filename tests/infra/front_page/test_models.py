"""The tab Models, with the real registry: what it says of models, and the dialog that deploys, in a real browser."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from infra.front_page import models
from infra.stack_settings import USER, StackSettings
from tasks.tracking.deployment_runs import RolloutRecord, write_rollout_record
from tests.clients import front_page, prefect_api
from tests.infra.browser import Page
from tests.infra.front_page.in_process import NOBODY, ask
from tests.infra.front_page.settled import SETTLED
from tests.tasks.catalogue.registry import register

HOSTILE = "<img src=x onerror=alert(1)>'\".zip"


@pytest.fixture
def name(stack: StackSettings) -> str:  # noqa: ARG001
    """A model with versions 1, the champion, and 2, which a person has approved."""
    name = f"model-{uuid4().hex[:8]}"
    register(name, {"a.zip": "d" * 64}, promotion_reason="Better by <0.1>.", parity="passed", flow_run_id="run-1")
    register(name, {HOSTILE: "e" * 64}, **{"approval": "approved", "approval.by": "Ann <a>", "promotion": "refused"})
    MlflowClient().set_registered_model_alias(name, "champion", "1")
    return name


def get(stack: StackSettings, path: str, **query: str) -> str:
    with front_page(stack) as page:
        return page.get(path, params=query or None).raise_for_status().text


def test_models_come_page_by_page(stack: StackSettings) -> None:
    own = f"page-{uuid4().hex[:8]}"
    expected = [f"{own}-{number:02d}" for number in range(models.PER_PAGE + 2)]
    for each in expected:
        MlflowClient().create_registered_model(each)
    first = get(stack, "/registered-models/list", search=own)
    more = re.search(r'hx-get="([^"]*cursor=[^"]*)"', first)
    assert more
    second = get(stack, more[1].replace("&amp;", "&"))
    found = [re.findall(rf">({own}-\d+)</a>", text) for text in (first, second)]
    assert found == [expected[: models.PER_PAGE], expected[models.PER_PAGE :]]
    assert "hx-get" not in second
    assert "No name holds" in get(stack, "/registered-models/list", search=f"{own}-none")


def test_a_model_is_shown_with_where_its_versions_are_from(stack: StackSettings, name: str) -> None:
    text = get(stack, "/registered-models/versions", name=name)
    newest, _, oldest = text.partition('id="version-1"')
    for part in ("Ann &lt;a&gt;", "/datasets?search=%3Cimg+src%3Dx", "not compared yet"):
        assert part in newest
    for part in ("champion", "Better by &lt;0.1&gt;.", "mAP50-95 <strong>0.500</strong>", ">passed</a>", "a, b"):
        assert part in oldest
    assert "not served" in oldest
    assert (">refused<" in newest, ">refused<" in oldest) == (True, False)
    assert "/runs/run-1/mlflow" in oldest
    assert not re.search(r"<img|<b>|style=", text)


def test_a_model_is_shown_while_triton_is_away(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_HTTP_URL", NOBODY)
    text = ask(f"/registered-models/versions?name={name}").raise_for_status().text
    assert (text.count("Triton is away"), "served</span>" in text) == (3, False)
    assert "Triton is away" in ask(f"/registered-models/list?search={name}").text


def test_versions_come_page_by_page(stack: StackSettings) -> None:
    name = f"many-{uuid4().hex[:8]}"
    for _ in range(models.VERSIONS_PER_PAGE + 1):
        register(name, {})
    numbers = [
        [
            int(number)
            for number in re.findall(r'id="version-(\d+)"', get(stack, "/registered-models/versions", **query))
        ]
        for query in ({"name": name}, {"name": name, "below": "2"})
    ]
    assert numbers == [list(range(models.VERSIONS_PER_PAGE + 1, 1, -1)), [1]]
    assert f"below={2}" in get(stack, "/registered-models/versions", name=name)


def test_a_model_that_is_not_there_is_named(stack: StackSettings) -> None:
    with front_page(stack) as page:
        for path in ("versions", "parity"):
            answer = page.get(f"/registered-models/{path}", params={"name": "<absent>/1"})
            assert (answer.status_code, "&lt;absent&gt;" in answer.text) == (400, True)


def test_parity_leads_to_the_newest_comparison(stack: StackSettings, name: str) -> None:
    with front_page(stack) as page:
        absent = page.get("/registered-models/parity", params={"name": f"{name}/1"})
        assert (absent.status_code, "Deploy it" in absent.text) == (400, True)
        for number, tags in enumerate(({"parity": "failed"}, {"parity": "passed"}, {})):
            record = RolloutRecord(action="deploy", model_name=name, flow_run_id=str(uuid4()), version=1, tags=tags)
            write_rollout_record.fn(record, "FINISHED", float(number + 1))
        found = page.get("/registered-models/parity", params={"name": f"{name}/1"}).headers["location"]
    run = re.search(r"/runs/([0-9a-f]{32})", found)
    assert run
    assert MlflowClient().get_run(run[1]).data.tags["parity"] == "passed"


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(stack: StackSettings, browser: Page, name: str) -> Iterator[Page]:
    """The page of the model, reached from the list."""
    with browser.new_tab() as tab:
        tab.resize(1280, 900)
        address = f"http://127.0.0.1:{stack.live_port}/registered-models"
        tab.sign_in(address, USER, stack.secrets["front_page"])
        tab.js(f"document.querySelector('[name=search]').value = {json.dumps(name)}")
        tab.js("document.querySelector('.choice').requestSubmit()")
        tab.wait("document.querySelector('tbody a') !== null")
        tab.js("document.querySelector('tbody a').click()")
        tab.wait(f"document.querySelectorAll('.version').length === 2 && {SETTLED}")
        yield tab


def dialog_of(tab: Page, action: str) -> dict[str, Any]:
    """The parameters that the dialog of an action on version 2 shows."""
    buttons = "[...document.querySelector('#version-2').closest('.version').querySelectorAll('button')]"
    tab.js(f"{buttons}.find(each => each.textContent === '{action}').click()")
    tab.wait(f"document.getElementById('dialog').open && {SETTLED}")
    shown: dict[str, Any] = json.loads(tab.js("document.querySelector('#parameters pre').textContent"))
    return shown


def test_a_version_is_deployed_with_the_parameters_that_are_shown(tab: Page, stack: StackSettings, name: str) -> None:
    shown = dialog_of(tab, "Evaluate")
    assert shown == {"model_name": name, "versions": [2]}
    tab.js("document.querySelector('#dialog [data-close]').click()")
    shown = dialog_of(tab, "Deploy")
    assert shown == {"model_name": name, "version": 2}
    tab.js("document.querySelector('#dialog .main').click()")
    tab.wait("document.querySelector('#dialog .started') !== null")
    with prefect_api(stack) as api:
        newest = api.post("/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 200}).json()
    assert [run["parameters"] for run in newest if run["parameters"].get("model_name") == name] == [shown]


def test_lineage_is_asked_for_when_it_is_opened_and_stays_open_while_the_rest_changes(tab: Page, name: str) -> None:
    assert tab.js("document.querySelector('.lineage img')") is None
    tab.js("document.querySelector('.version summary').click()")
    tab.wait("document.querySelector('.lineage img')?.naturalWidth > 0")
    assert HOSTILE in tab.js("document.querySelector('.lineage pre').textContent")
    MlflowClient().set_registered_model_alias(name, "champion", "2")
    tab.js("document.body.dispatchEvent(new Event('studio:slow-tick'))")
    tab.wait("document.querySelector('.version .accent')?.innerText === 'champion'")
    assert tab.js("document.querySelector('.version details').open && document.querySelector('.lineage img') !== null")


def test_nothing_is_wider_than_the_window(tab: Page) -> None:
    tab.assert_no_wider(360, 1280)
