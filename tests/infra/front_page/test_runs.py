"""The tab Runs, with the real server: what it says of runs, what it does to them, and itself in a real browser."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, LogCreate
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed, Pending, Running, Suspended

from infra.front_page import runs
from infra.stack_settings import USER, StackSettings
from tasks.orchestration.child_runs import PIPELINE, child_tag
from tasks.orchestration.outcome import NOTHING_NEW
from tasks.tracking.mlflow_client import TRAINING, experiment_id
from tests.clients import front_page
from tests.infra.browser import Page
from tests.infra.front_page.in_process import ask
from tests.infra.front_page.settled import SETTLED
from tests.prefect_runs import make_run

ARCHIVE = "<b>'\"&.zip"


def made(client: SyncPrefectClient, deployment: UUID, *states: State, tag: str = "") -> UUID:
    return make_run(client, deployment, *states, tag=tag, model_name="shapes", archives=[ARCHIVE])


def get(stack: StackSettings, path: str, **query: str) -> str:
    with front_page(stack) as page:
        return page.get(path, params=query).raise_for_status().text


def shown(text: str) -> list[str]:
    """The ids of the runs in the order in which they are shown."""
    return list(dict.fromkeys(re.findall(r"/runs/flow-run/([0-9a-f-]{36})", text)))


def cursor(text: str) -> str:
    """Where the older runs begin."""
    found = re.search(r'name="until" value="([^"]*)"', text)
    assert found
    return found[1]


def test_a_run_is_shown_with_what_it_does_and_how_far_it_is(
    stack: StackSettings, client: SyncPrefectClient, deployment: UUID, flow: str
) -> None:
    run = made(client, deployment, Running())
    client.create_artifact(ArtifactCreate(type="progress", data=40, description="2 epochs", flow_run_id=run))
    line = LogCreate(name="x", level=20, message="epoch <2>", timestamp=datetime.now(UTC), flow_run_id=run)
    client.create_logs([line])
    failed = made(client, deployment, Running(), Failed(message="Expected <this>."))
    refused = made(client, deployment, Running(), Cancelled(name="Refused"))
    text = get(stack, "/runs/newest", flow=flow)
    now, _, ended = text.partition('id="ended"')
    assert (shown(now), shown(ended)) == ([str(run)], [str(refused), str(failed)])
    for part in ("shapes: &lt;b&gt;&#39;&#34;&amp;.zip", "epoch &lt;2&gt;", 'value="0.4"', "2 epochs", ">Running<"):
        assert part in now
    assert ("Expected &lt;this&gt;." in ended, ">Failed<" in ended) == (True, True)
    assert (f"cancel-{run}" in now, f"retry-{failed}" in ended, f"retry-{refused}" in ended) == (True, True, False)
    assert not re.search(r"<b>|onclick|style=", text)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page in this process has a few runs at a time, so that few have to be made."""
    monkeypatch.setattr(runs, "PER_PAGE", 3)
    monkeypatch.setattr(runs, "MOST_REPEATED", 7)


def asked(path: str, **query: str) -> httpx.Response:
    """What that page answers."""
    return ask(str(httpx.URL(path, params=query))).raise_for_status()


@pytest.mark.usefixtures("short")
def test_older_runs_follow_where_the_first_answer_ended(client: SyncPrefectClient, deployment: UUID, flow: str) -> None:
    """Whatever ends meanwhile is shown above, and nothing between the two is lost."""
    expected = [str(made(client, deployment, Cancelled())) for _ in range(runs.PER_PAGE + 2)][::-1]
    first = asked("/runs/newest", flow=flow).text
    until = cursor(first)
    assert shown(first) == expected[: runs.PER_PAGE]
    assert 'id="older" hx-swap-oob="true"' in first
    late = str(made(client, deployment, Cancelled()))
    again = asked("/runs/newest", flow=flow, until=until).text
    assert (shown(again), cursor(again)) == ([late, *expected[: runs.PER_PAGE]], until)
    assert "older" not in again
    older = asked("/runs/older", flow=flow, cursor=until).text
    assert shown(older) == expected[runs.PER_PAGE :]
    assert "hx-get" not in older


@pytest.mark.usefixtures("short")
def test_a_list_that_has_grown_long_begins_again(client: SyncPrefectClient, deployment: UUID, flow: str) -> None:
    """The list alone, and not the page: somebody may be writing on it."""
    for _ in range(runs.PER_PAGE):
        made(client, deployment, Cancelled())
    until = cursor(asked("/runs/newest", flow=flow).text)
    for count, lines, begins in (
        (runs.MOST_REPEATED - runs.PER_PAGE, runs.MOST_REPEATED, False),
        (1, runs.PER_PAGE, True),
    ):
        for _ in range(count):
            made(client, deployment, Cancelled())
        answer = asked("/runs/newest", flow=flow, until=until)
        assert (len(shown(answer.text)), 'id="older"' in answer.text) == (lines, begins)
        assert "HX-Refresh" not in answer.headers
    assert cursor(answer.text) != until


def test_runs_that_a_run_has_started_stand_below_it(
    stack: StackSettings, client: SyncPrefectClient, deployment: UUID
) -> None:
    pipelines = client.create_deployment(client.create_flow_from_name("run-pipeline"), str(uuid4()))
    parent = made(client, pipelines, Running())
    tag = child_tag(PIPELINE, parent)
    first = made(client, deployment, Running(), Completed(), tag=tag)
    second = made(client, deployment, Running(), tag=tag)
    orphan = made(client, deployment, Running(), tag=child_tag(PIPELINE, uuid4()))
    now, _, ended = get(stack, "/runs/newest").partition('id="ended"')
    below = now[now.index(str(parent)) :]
    below = below[below.index("Runs that it has started") : below.index("</ul>")]
    assert shown(below) == [str(first), str(second)]
    assert str(orphan) in shown(now)
    assert str(first) not in shown(ended)
    client.set_flow_run_state(parent, Completed(), force=True)
    client.set_flow_run_state(second, Completed(), force=True)
    now, _, ended = get(stack, "/runs/newest").partition('id="ended"')
    assert shown(ended)[:3] == [str(parent), str(first), str(second)]
    client.delete_deployment(pipelines)


def test_a_review_that_waits_is_a_button_on_its_line_and_on_that_of_its_loop(
    stack: StackSettings, client: SyncPrefectClient, deployment: UUID
) -> None:
    loops = client.create_deployment(client.create_flow_from_name("close-loop"), str(uuid4()))
    asks: State = Suspended(message="Waits until there is an answer about <3> more images: http://page")
    asks.state_details.pause_key = "front-page"
    review = made(client, deployment, asks)
    waits: State = Suspended(message="Goes on when another run does.")
    waits.state_details.child_flow_run_id = review
    loop = made(client, loops, waits)
    by_hand = made(client, deployment, Suspended())
    text = get(stack, "/runs/newest")
    for run in (review, loop):
        assert f'id="review-{run}" href="/reviews/{review}"' in text
    assert text.count("about &lt;3&gt; more images") == 2
    assert f"review-{by_hand}" not in text
    client.set_flow_run_state(review, Running(), force=True)
    text = get(stack, "/runs/newest")
    assert f"review-{loop}" not in text
    assert "Goes on when another run does." in text
    for run in (review, loop, by_hand):
        client.set_flow_run_state(run, Cancelled(), force=True)
    client.delete_deployment(loops)


def test_runs_are_chosen_by_flow_and_state(
    stack: StackSettings, client: SyncPrefectClient, deployment: UUID, flow: str
) -> None:
    waits, works = made(client, deployment), made(client, deployment, Running())
    idle = made(client, deployment, Completed(name=NOTHING_NEW))
    done = made(client, deployment, Completed())
    for state, expected in (("waiting", [waits]), ("running", [works]), ("completed", [done, idle]), ("failed", [])):
        assert shown(get(stack, "/runs/newest", flow=flow, state=state)) == [str(run) for run in expected]
    assert str(idle) not in shown(get(stack, "/runs/newest"))
    assert str(idle) in shown(get(stack, "/runs/newest", flow=runs.EVERY_FLOW))
    with front_page(stack) as page:
        refused = page.get("/runs/newest", params={"state": "<odd>"})
        foreign = page.get("/runs/older", params={"cursor": "odd"})
    assert (refused.status_code, "found &#39;&lt;odd&gt;&#39;" in refused.text) == (400, True)
    assert (foreign.status_code, "Expected a cursor of runs" in foreign.text) == (400, True)


def test_a_run_is_cancelled_and_given_back_once(
    stack: StackSettings, client: SyncPrefectClient, deployment: UUID
) -> None:
    run = made(client, deployment, Running(), Failed())
    with front_page(stack) as page:
        assert "AwaitingRetry" in page.post(f"/runs/{run}/retry").raise_for_status().text
        again = page.post(f"/runs/{run}/retry")
        assert (again.status_code, "found it AwaitingRetry" in again.text) == (400, True)
        cancelled = page.post(f"/runs/{run}/cancel").raise_for_status()
        assert ("Cancelled" in cancelled.text, "studio:changed" in cancelled.headers["HX-Trigger"]) == (True, True)
        assert page.post(f"/runs/{run}/cancel").status_code == 400
        assert page.get(f"/runs/{run}/cancel").status_code == 405
        assert "found none" in page.post(f"/runs/{uuid4()}/cancel").text
    assert client.read_flow_run(run).state_name == "Cancelled"


def test_a_run_leads_to_its_run_in_mlflow(stack: StackSettings) -> None:
    flow_run, mlflow = str(uuid4()), MlflowClient()
    experiment = experiment_id(mlflow, TRAINING)
    tracked = mlflow.create_run(experiment, tags={"flow_run_id": flow_run}).info.run_id
    with front_page(stack) as page:
        found = page.get(f"/runs/{flow_run}/mlflow", params={"flow": "train-model"})
        assert f"/experiments/{experiment}/runs/{tracked}" in found.headers["location"]
        for run, flow in ((flow_run, "deploy-model"), (uuid4(), "train-model"), (flow_run, "odd")):
            absent = page.get(f"/runs/{run}/mlflow", params={"flow": flow})
            assert (absent.status_code, "found none" in absent.text) == (400, True)


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(stack: StackSettings, browser: Page, flow: str) -> Iterator[Page]:
    """The list of the runs of the test's own flow."""
    with browser.new_tab() as tab:
        tab.resize(1280, 900)
        tab.sign_in(f"http://127.0.0.1:{stack.live_port}/runs?flow={flow}", USER, stack.secrets["front_page"])
        tab.wait("document.body.innerText.includes('No run goes on.')")
        yield tab


def texts(tab: Page, selector: str) -> list[str]:
    found: list[str] = tab.js(f"[...document.querySelectorAll({selector!r})].map(each => each.innerText)")
    return found


def test_a_run_is_watched_to_its_end_without_a_reload(tab: Page, client: SyncPrefectClient, deployment: UUID) -> None:
    tab.js("window.loaded = true")
    badge = "document.querySelector('.run .badge')?.innerText"
    run = made(client, deployment, Pending())
    tab.wait(f"{badge} === 'Pending'")
    client.set_flow_run_state(run, Running(), force=True)
    client.create_artifact(ArtifactCreate(type="progress", data=25, description="1 of 4 epochs", flow_run_id=run))
    tab.wait(f"{badge} === 'Running' && document.querySelector('progress')?.value === 0.25")
    assert texts(tab, "progress ~ *, label.soft")[0].startswith("1 of 4 epochs")
    client.set_flow_run_state(run, Completed(message="All <b>done</b>."), force=True)
    tab.wait(f"{badge} === 'Completed'")
    assert texts(tab, "section:last-of-type .what p") == ["All <b>done</b>."]
    assert tab.js("window.loaded")


def test_a_page_that_nobody_sees_asks_nobody(tab: Page) -> None:
    tab.js(
        "window.asked = 0; document.addEventListener('htmx:beforeRequest', () => asked++);"
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true})"
    )
    asked = tab.js("asked")
    tab.js("new Promise(done => setTimeout(done, 4500))")
    assert tab.js("asked") == asked
    tab.js(
        "Object.defineProperty(document, 'hidden', {value: false});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    tab.wait("asked > 0")


def test_a_run_is_cancelled_after_a_question_alone(tab: Page, client: SyncPrefectClient, deployment: UUID) -> None:
    run = made(client, deployment)
    button = f"document.getElementById('cancel-{run}')"
    tab.wait(f"{button} !== null && {SETTLED}")
    tab.js(
        f"window.asked = []; window.confirm = text => {{ asked.push(text); return asked.length > 1 }}; {button}.click()"
    )
    assert tab.js("asked") == [f"Cancel {client.read_flow(client.read_flow_run(run).flow_id).name} shapes: {ARCHIVE}?"]
    assert client.read_flow_run(run).state_name == "Scheduled"
    tab.js(f"{button}.click()")
    tab.wait("document.getElementById('changed').innerText === 'The run is Cancelled now.'")
    tab.wait(f"document.getElementById('retry-{run}') !== null")
    assert client.read_flow_run(run).state_name == "Cancelled"


def test_nothing_is_wider_than_the_window(tab: Page, client: SyncPrefectClient, deployment: UUID) -> None:
    made(client, deployment, Running(), Failed(message="x" * 300))
    tab.wait("document.querySelector('.run') !== null")
    tab.assert_no_wider(360, 1280)
