"""Tab Predictions: its list, the page of a run, and its gallery in a real browser."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import numpy as np
import pytest
from markupsafe import escape
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from infra.front_page import predictions
from infra.front_page.application import application
from infra.stack_settings import USER, StackSettings
from tasks.media.images import decode_image
from tasks.orchestration import deployed_flows
from tasks.storage.object_store import ObjectStore
from tests.clients import front_page, prefect_api
from tests.infra.browser import Page
from tests.infra.front_page.in_process import ask
from tests.infra.front_page.inferences import FAILURE, TEXT_FILE, publish_run
from tests.infra.front_page.settled import SETTLED
from tests.infra.front_page.test_live import NO_SERVICES
from tests.tasks.catalogue.registry import infer
from tests.tasks.inference.results.test_gallery import HOSTILE
from tests.waiting import eventually

WATCH = """
window.told = [];
addEventListener("securitypolicyviolation", event => told.push(event.violatedDirective));
addEventListener("error", event => event.message && told.push(event.message));
"""
PLACE = """(() => {
const {x, y, width, height} = document.querySelector('SELECTOR').getBoundingClientRect();
return {x: x + scrollX, y: y + scrollY, width, height, scale: 1};
})()"""
MODEL = f"streets-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def site(stack: StackSettings) -> Iterator[httpx.Client]:
    with front_page(stack) as client:
        yield client


@pytest.fixture(scope="module")
def run(stack: StackSettings, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: ARG001
    return publish_run(MODEL, tmp_path_factory.mktemp("results"))


def part(site: httpx.Client, run: str, name: str) -> str:
    return site.get(f"/predictions/{run}/{name}").raise_for_status().text


def colour_of(number: int) -> tuple[int, int, int]:
    """Red, green and blue of the picture in a cell of the contact sheet."""
    return 40 + 20 * number, 120, 200 - 20 * number


def scroll(site: httpx.Client, address: str) -> list[str]:
    """The addresses in the rows of a list, to its end."""
    found: list[str] = []
    while address:
        text = site.get(address).raise_for_status().text
        found += map(unescape, re.findall(r'<th scope="row"><a href="([^"]*)"', text))
        more = re.search(r'<tr hx-get="([^"]*)"', text)
        address = unescape(more[1]) if more else ""
    return found


# ---- the handlers ---------------------------------------------------------------------------------------------------


def test_the_list_goes_on_to_its_end_and_shows_each_run_once(site: httpx.Client) -> None:
    model = f"many-{uuid4().hex[:8]}"
    expected = [infer(model, 1) for _ in range(predictions.RUNS + 2)][::-1]
    found = [address.rpartition("/")[2] for address in scroll(site, f"/predictions/list?model={model}")]
    assert found == expected


def test_a_run_is_listed_with_its_first_pictures(site: httpx.Client, run: str) -> None:
    listed = site.get(f"/predictions/list?model={MODEL}").text
    assert listed.count('<th scope="row">') == 1
    assert f"/predictions/{run}/thumbnails.jpg" in listed
    answer = site.get(f"/predictions/{run}/thumbnails.jpg")
    pictures = decode_image(answer.content)
    assert pictures.shape == (96, 512, 3)
    for place in range(4):  # cell 0 of the sheet is of no item
        assert np.abs(pictures[48, 64 + 128 * place].astype(int) - colour_of(place + 1)).max() < 6
    assert site.get(f"/predictions/{uuid4()}/thumbnails.jpg").status_code == 404


def test_the_filter_offers_the_models_and_keeps_the_chosen_one(site: httpx.Client) -> None:
    assert '<option value="gone" selected>gone</option>' in site.get("/predictions/models?model=gone").text
    page = site.get("/predictions", params={"model": HOSTILE}).text
    assert f'value="{escape(HOSTILE)}"' in page
    assert HOSTILE not in page


@pytest.mark.parametrize(
    ("query", "words"), [("cursor=x", "a cursor of predictions"), ("model=' or '1'='1", "the name of a model")]
)
def test_a_request_that_cannot_be_is_refused_in_words(site: httpx.Client, query: str, words: str) -> None:
    answer = site.get(f"/predictions/list?{query}")
    assert (answer.status_code, words in answer.text) == (400, True)


def test_many_failures_are_cut_at_a_whole_line_and_none_are_said(site: httpx.Client) -> None:
    run, line = str(uuid4()), f"{FAILURE.to_line()}\n".encode()
    store = ObjectStore("predictions")
    store.put(f"{run}/failures.jsonl", line * 5000)
    failures = part(site, run, "failures")
    shown = failures.count('<th scope="row">')
    assert 200 < shown < 1000
    assert f"These are the first {shown:,}; all are in" in failures
    store.put(f"{run}/failures.jsonl", b"")
    assert "Every input could be used" in part(site, run, "failures")


@pytest.mark.parametrize("line", [b"{", b"[]", b"1", b"{}", b'{"classes": [[1]]}', b"\xff"])
def test_damaged_lists_are_named(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectStore, "get_start", lambda *_: line + b"\n")
    for path, name in (("failures", "failures.jsonl"), ("thumbnails.jpg", "items.jsonl")):
        answer = ask(f"/predictions/{uuid4()}/{path}")
        assert (answer.status_code, f"Expected {name} as run-inference writes it" in answer.text) == (400, True)


def test_names_from_outside_are_text(site: httpx.Client, run: str) -> None:
    failures = part(site, run, "failures")
    assert str(escape(HOSTILE)) in failures
    assert str(escape(FAILURE.reason)) in failures
    files = part(site, run, "files")
    assert str(escape(TEXT_FILE)) in files
    every = [part(site, run, name) for name in ("results", "actions", "gallery", "failures", "files")]
    assert not [text for text in every if "<script" in text or "<img src=x" in text or "<i>" in text]


def test_no_link_of_the_store_is_shown(site: httpx.Client, run: str, stack: StackSettings) -> None:
    every = [site.get("/predictions/list").text, site.get(f"/predictions/{run}").text]
    every += [part(site, run, name) for name in ("results", "actions", "gallery", "failures", "files")]
    assert not [text for text in every if f":{stack.s3_port}" in text or "X-Amz" in text]


def test_every_file_is_listed_and_each_address_leads_to_it(
    site: httpx.Client,
) -> None:
    run, store = str(uuid4()), ObjectStore("predictions")
    names = [TEXT_FILE, *(f"annotated/{number:03d}.jpg" for number in range(predictions.FILES + 1)), "coco.json"]
    for name in names:
        store.put(f"{run}/{name}", name.encode())
    found = scroll(site, f"/predictions/{run}/files")
    assert len(found) == len(names) == len(set(found))
    assert {site.get(each).text for each in found} == set(names)


def test_a_run_is_started_again_with_the_parameters_that_it_had(site: httpx.Client) -> None:
    inputs = ["a b.jpg", "<é>/"]
    given = {"model_name": "shapes", "inputs": inputs, "inference": {"confidence": 0.4, "annotate": False}}
    run = deployed_flows.start("run-inference", given)
    deployed_flows.cancel(run)
    actions = part(site, str(run), "actions")
    query = parse_qs(urlsplit(unescape(actions.split('hx-get="')[1].split('"')[0])).query)
    assert query["inputs"] == inputs
    assert query["inference.confidence"] == ["0.4"]
    dialog = site.get("/start/run-inference", params=query).raise_for_status().text
    assert json.loads(unescape(dialog.split('aria-label="Parameters">')[1].split("</pre>")[0])) == given


def test_inputs_that_no_address_holds_are_left_out_and_it_is_said(site: httpx.Client) -> None:
    given = {"model_name": "shapes", "inputs": [f"folder/{number}.jpg" for number in range(5000)]}
    run = deployed_flows.start("run-inference", given)
    deployed_flows.cancel(run)
    actions = part(site, str(run), "actions")
    assert "The run had 5,000 inputs" in actions
    assert len(actions) < 3000


def test_a_run_that_prefect_has_forgotten_and_one_that_was_deleted_say_so(site: httpx.Client) -> None:
    run = infer("forgotten", 4)
    assert "Prefect has forgotten" in part(site, run, "actions")
    ObjectStore("predictions").delete(f"{run}/summary.json")
    assert "deleted" in part(site, run, "results")
    assert "There is none" in part(site, run, "gallery")
    ObjectStore("predictions").put(f"{run}/index.html", b"<script>alert(1)</script>")
    assert "its script does not run" in part(site, run, "gallery")
    assert "Their list is not there" in part(site, run, "failures")
    assert site.get(f"/predictions/{uuid4()}/results").status_code == 400


PANELS = {"results", "actions", "gallery", "failures", "files"}


@pytest.mark.parametrize(
    ("variable", "gone", "words"),
    [
        ("MLFLOW_TRACKING_URI", {"results"}, "MLflow"),
        ("AWS_ENDPOINT_URL", PANELS - {"actions"}, "object store"),
        ("PREFECT_API_URL", {"actions"}, "Prefect"),
    ],
)
def test_each_panel_names_the_service_that_is_away_and_the_others_work(
    run: str, monkeypatch: pytest.MonkeyPatch, variable: str, gone: set[str], words: str
) -> None:
    monkeypatch.setenv(variable, NO_SERVICES.store_url)

    async def answers() -> dict[str, httpx.Response]:
        options: dict[str, Any] = {"base_url": "http://127.0.0.1", "auth": (USER, NO_SERVICES.password)}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application(NO_SERVICES)), **options) as client:
            return {name: await client.get(f"/predictions/{run}/{name}") for name in sorted(PANELS)}

    address = get_current_settings().api.url if variable != "PREFECT_API_URL" else NO_SERVICES.store_url
    with temporary_settings({PREFECT_API_URL: address}):
        found = asyncio.run(answers())
    assert {name for name, answer in found.items() if answer.status_code == 502} == gone
    assert {name for name, answer in found.items() if answer.status_code == 200} == PANELS - gone
    assert all(words in found[name].text for name in gone)


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def page(stack: StackSettings, browser: Page) -> Iterator[Page]:
    """The browser of a person who has given the password; the pages may want nothing that their policy forbids."""
    with browser.new_tab() as tab:
        tab.resize(1280, 900)
        address = f"http://127.0.0.1:{stack.live_port}/predictions"
        tab.sign_in(address, USER, stack.secrets["front_page"])
        tab.call("Page.enable")
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        tab.open(f"{address}?model={MODEL}")
        yield tab
        assert tab.js("told") == []


def shows(page: Page, selector: str, colour: tuple[int, int, int]) -> bool:
    """Whether an element has that colour on the screen; a frame of another origin answers no script."""
    clip = page.js(PLACE.replace("SELECTOR", selector))
    picture = page.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    away = np.abs(decode_image(base64.b64decode(picture)).astype(int) - colour).max(axis=2)
    return bool((away < 8).sum() > 1000)


def test_a_gallery_opens_from_the_list_with_its_pictures_inside_the_page(page: Page, run: str) -> None:
    page.wait("document.querySelector('.thumbnails img')?.naturalWidth === 512")
    page.js("document.querySelector('tbody th a').click()")
    page.wait(f"location.pathname === '/predictions/{run}' && document.querySelector('iframe') !== null")
    eventually(lambda: shows(page, "iframe", colour_of(1)) and shows(page, "iframe", colour_of(4)), "its pictures")
    page.wait("document.querySelector('.picture img') !== null")


def test_the_pictures_of_a_gallery_come_through_the_page_and_by_no_link(
    page: Page, run: str, stack: StackSettings
) -> None:
    home = f"http://127.0.0.1:{stack.live_port}"
    page.open(f"{home}/files/predictions/{run}/index.html")
    page.wait("document.querySelectorAll('.card.seen').length === 8")
    page.js("document.querySelector('.card').click()")
    page.wait("document.querySelector('img.media')?.naturalWidth === 640")
    page.js("view(7)")
    page.wait("document.querySelector('video.media')?.readyState >= 2")
    asked = set(page.js("performance.getEntriesByType('resource').map(entry => entry.name)")) - {f"{home}/favicon.ico"}
    assert {urlsplit(address).path.split("/")[-2] for address in asked} == {"thumbnails", "annotated"}
    assert [address for address in asked if not address.startswith(f"{home}/files/predictions/{run}/")] == []
    links = page.js("[...document.querySelectorAll('a[data-path]')].map(link => link.href)")
    assert all(address.startswith(f"{home}/files/predictions/{run}/") for address in links)
    assert f":{stack.s3_port}/" in page.js("document.getElementById('data').textContent")  # links are there, unused


def test_a_film_plays_and_jumps(page: Page, run: str, stack: StackSettings) -> None:
    page.open(f"http://127.0.0.1:{stack.live_port}/predictions/{run}")
    page.wait("document.querySelector('.film') !== null")
    page.js("document.querySelector('.film').open = true; document.querySelector('video').load()")
    page.js("document.querySelector('video').preload = 'auto'")
    page.wait("document.querySelector('video').readyState >= 2")
    page.js("document.querySelector('video').currentTime = 0.3")
    page.wait("!document.querySelector('video').seeking && document.querySelector('video').currentTime === 0.3")


def test_the_filter_is_in_the_address(page: Page, run: str) -> None:
    page.wait("document.querySelectorAll('#model option').length > 1")
    page.js(
        "document.querySelector('#model').value = ''; "
        "document.querySelector('#model').dispatchEvent(new Event('change', {bubbles: true}))"
    )
    page.wait("location.search === '?model=' && document.querySelectorAll('tbody th').length > 1")
    page.js("history.back()")
    page.wait(f"location.search === '?model={MODEL}' && [...document.querySelectorAll('tbody th a')].length === 1")
    assert page.js("document.querySelector('tbody th a').href").endswith(run)


def test_deleting_asks_first_and_then_starts_with_this_run(page: Page, stack: StackSettings) -> None:
    doomed = infer("doomed", 5)
    page.open(f"http://127.0.0.1:{stack.live_port}/predictions/{doomed}")
    page.wait(f"document.querySelector('button.bad') !== null && {SETTLED}")
    page.js("document.querySelector('button.bad').click()")
    page.wait("document.querySelector('dialog[open] footer .main') !== null")
    (stored,) = ObjectStore("predictions").list(f"{doomed}/")
    assert f"1 files of {stored.size} bytes go, and no copy of them is kept." in page.js(
        "document.querySelector('dialog').innerText"
    )
    page.js("document.querySelector('dialog footer .main').click()")
    page.wait("document.querySelector('dialog .started') !== null")
    with prefect_api(stack) as api:
        runs = api.post("/flow_runs/filter", json={"sort": "START_TIME_DESC"}).raise_for_status().json()
    assert [each["parameters"] for each in runs if each["parameters"].get("run") == doomed] == [{"run": doomed}]


def test_nothing_is_wider_than_the_window(page: Page, run: str, stack: StackSettings) -> None:
    page.wait("document.querySelector('tbody th') !== null")
    page.assert_no_wider(360, 768, 1920)
    page.open(f"http://127.0.0.1:{stack.live_port}/predictions/{run}")
    page.wait("document.querySelector('.picture img') !== null && document.querySelectorAll('tbody th').length > 5")
    page.assert_no_wider(360, 768, 1920)
