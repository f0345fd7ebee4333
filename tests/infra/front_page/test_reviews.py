"""A round of review on the front page, in a real browser, with a round as review-images prepares it."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Completed, Pending, Suspended

from infra.stack_settings import USER, StackSettings
from tasks.media.images import encode_jpeg
from tasks.orchestration.suspension import suspend
from tasks.review import own_page
from tasks.review.rounds import ANSWERS, PAGE, ToolName, image_key, pack_round
from tasks.storage.object_store import ObjectStore
from tests.clients import front_page
from tests.infra.browser import Page
from tests.tasks.review.rounds import CLASS_NAMES, HEIGHT, WIDTH, review_round
from tests.waiting import eventually

ENTRIES = ("media/a.jpg", "media/b.jpg", "media/c.jpg")
REASON = "red at 0.50, between 0.30 and 0.80 <b>"
STORE = ObjectStore("runs")


@flow
def wait_for_people() -> None:
    """Wait as review-images does."""
    suspend("Waits for people.")


@pytest.fixture
def run(client: SyncPrefectClient) -> Iterator[UUID]:
    """A suspended run with a round of three images, each with two suggestions."""
    deployment = client.create_deployment(client.create_flow(wait_for_people), str(uuid4()))
    run = client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(run, Pending(), force=True)
    story: Any = wait_for_people
    with pytest.raises(Pause):
        run_flow(story, flow_run=client.read_flow_run(run))
    for entry in ENTRIES:
        STORE.put(image_key(str(run), entry), encode_jpeg(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), 90))
    review = review_round("detect", *ENTRIES, tool=ToolName.FRONT_PAGE)
    listed = replace(review.images[0], reason=REASON)
    STORE.put(f"{run}/review/round.json", pack_round(replace(review, images=(listed, *review.images[1:]))))
    yield run
    client.set_flow_run_state(run, Cancelled(), force=True)
    client.delete_deployment(deployment)


def press(page: Page, key: str) -> None:
    """Press a key as a person does."""
    text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def hold(page: Page, key: str) -> None:
    for _ in range(5):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key, text="\r", autoRepeat=True)
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def place(number: int) -> str:
    shown = f"document.getElementById('place').textContent === 'Image {number} of 3'"
    return f"{shown} && !document.getElementById('submit').disabled"


def test_a_person_reviews_a_round_with_the_keyboard_and_the_run_goes_on(
    stack: StackSettings, client: SyncPrefectClient, run: UUID, browser: Page
) -> None:
    with browser.new_tab() as tab:
        tab.resize(1280, 900)
        tab.sign_in(f"http://127.0.0.1:{stack.live_port}/reviews/{run}", USER, stack.secrets["front_page"])
        tab.wait(place(1))
        assert tab.js("document.getElementById('reason').textContent") == f"Why this image: {REASON}"
        for key in ("x", "ArrowDown", "1"):  # the first is refused, the second of another class
            press(tab, key)
        press(tab, "Enter")
        tab.wait(place(2))
        hold(tab, "Enter")
        time.sleep(0.5)
        assert tab.js(place(2)), "a key that is held answers for one image"
        assert tab.js("document.getElementById('reason').hidden")
        press(tab, "m")
        tab.wait(place(3))
        assert client.read_flow_run(run).state_name == "Suspended"
        tab.js("document.getElementById('skip').focus()")
        press(tab, "Enter")  # it presses the button
        tab.wait("!document.getElementById('all-done').hidden")
        press(tab, "ArrowLeft")
        tab.wait(place(2))
        assert "set aside: an object is missing" in tab.js("document.getElementById('count').textContent")
    review = own_page.read_round(str(run))
    first, missing, skipped = own_page.FrontPageTool().read(str(run), review)
    ((result,),) = [each["result"] for each in json.loads(first.submitted or "")["annotations"]]
    assert result["value"]["rectanglelabels"] == [CLASS_NAMES[0]]
    assert ((first.seconds or 0) > 0, missing.set_aside, skipped.skipped) == (True, True, True)
    assert client.read_flow_run(run).state_name in {"Resuming", "Scheduled", "Late"}
    client.set_flow_run_state(run, Suspended(), force=True)  # as if the server had been away with the last answer
    with browser.new_tab() as tab:
        tab.sign_in(f"http://127.0.0.1:{stack.live_port}/reviews/{run}", USER, stack.secrets["front_page"])
        eventually(lambda: client.read_flow_run(run).state_name != "Suspended", "the page has the run go on", 20)


def test_what_does_not_fit_a_round_is_refused(stack: StackSettings, client: SyncPrefectClient, run: UUID) -> None:
    done = '{"verdict": "done", "kept": {}}'
    with front_page(stack) as page:
        for path, body, status in (
            (f"{run}/answers/3", done, 404),
            (f"{uuid4()}/answers/0", done, 400),
            (f"{run}/answers/0", "[]", 400),
            (f"{run}/answers/0", "x" * (own_page.MAX_ANSWER_BYTES + 1), 413),
            (f"{run}/answers/0", done, 200),
        ):
            assert page.post(f"/reviews/{path}", content=body).status_code == status, path
        assert page.post(f"/reviews/{run}/resume").status_code == 200
        assert client.read_flow_run(run).state_name == "Suspended", "two images are open"
        elsewhere = str(uuid4())
        STORE.put(f"{elsewhere}/review/round.json", pack_round(review_round("detect", *ENTRIES)))
        STORE.put(f"{elsewhere}/review/{PAGE}", b"http://labels/projects/7/data")
        led = page.get(f"/reviews/{elsewhere}")
        assert (led.status_code, led.headers["location"]) == (303, "http://labels/projects/7/data")
        refused = page.post(f"/reviews/{elsewhere}/answers/0", content=done)
        assert (refused.status_code, "http://labels/projects/7/data" in refused.text) == (400, True)
        assert not [*STORE.keys(f"review-answers/{elsewhere}/")]
        STORE.put(f"{run}/review/{ANSWERS}", b"[]")
        late = page.post(f"/reviews/{run}/answers/0", content=done)
        assert (late.status_code, "is being made" in late.text) == (400, True)
        assert page.get(f"/reviews/{run}/pictures/0").headers["content-type"] == "image/jpeg"


def test_who_opens_a_round_that_was_cancelled_is_told_so_and_has_its_run_go_on(
    stack: StackSettings, client: SyncPrefectClient, run: UUID, browser: Page
) -> None:
    """What was answered before stays."""
    done = '{"verdict": "done", "kept": {}}'
    with front_page(stack) as page:
        page.post(f"/reviews/{run}/answers/0", content=done).raise_for_status()
        client.set_flow_run_state(run, Cancelled(), force=True)
        refused = page.post(f"/reviews/{run}/answers/1", content=done)
        assert (refused.status_code, f"studio retry {run}" in refused.text) == (400, True)
    with browser.new_tab() as tab:
        tab.resize(400, 800)
        tab.sign_in(f"http://127.0.0.1:{stack.live_port}/reviews/{run}", USER, stack.secrets["front_page"])
        tab.wait("!document.getElementById('standing').hidden")
        assert "was cancelled, and nobody would read an answer" in tab.js("document.body.innerText")
        tab.wait("document.getElementById('place').textContent === 'Image 2 of 3'")
        assert tab.js("document.getElementById('submit').disabled")
        tab.js("document.getElementById('retry').click()")
        eventually(lambda: client.read_flow_run(run).state_name != "Cancelled", "the run goes on", 20)
        again = "document.getElementById('standing')?.hidden && !document.getElementById('submit')?.disabled"
        tab.wait(f"{again} && document.getElementById('place').textContent === 'Image 2 of 3'")
    assert own_page.list_answered(str(run), own_page.read_round(str(run))) == [True, False, False]


def test_a_round_that_is_over_leads_to_its_report(
    stack: StackSettings, client: SyncPrefectClient, run: UUID, browser: Page
) -> None:
    """It is no trouble, so nothing of it is red; and an image without suggestions leaves no hole on a phone."""
    review = own_page.read_round(str(run))
    images = tuple(replace(image, rows=()) for image in review.images)
    STORE.put(f"{run}/review/round.json", pack_round(replace(review, images=images)))
    STORE.put(f"{run}/review/{ANSWERS}", b"[]")
    client.set_flow_run_state(run, Completed(message="x.zip: 3 images, 1 of 4 objects drawn by hand"), force=True)
    with browser.new_tab() as tab:
        tab.resize(400, 800)
        tab.sign_in(f"http://127.0.0.1:{stack.live_port}/reviews/{run}", USER, stack.secrets["front_page"])
        tab.wait("!document.getElementById('standing').hidden && document.getElementById('place').textContent !== ''")
        told = tab.js("document.getElementById('standing').innerText")
        assert ("1 of 4 objects drawn by hand" in told, "Report" in told, "go on" in told) == (True, True, False)
        assert tab.js("document.getElementById('report').getAttribute('href')") == f"/runs/{run}/pages"
        assert tab.js("document.getElementById('trouble').hidden")
        assert tab.js("document.getElementById('suggestions').getBoundingClientRect().height") == 0
        assert tab.js("document.documentElement.scrollWidth <= innerWidth")
