"""Tab Datasets: its list, the page of an archive, and both in a browser, on the real stack."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from mlflow import MlflowClient

from flows.validate_dataset import validate_dataset
from infra.front_page import datasets
from infra.stack_settings import StackSettings
from tasks.catalogue.archives import read_archive
from tasks.orchestration import deployed_flows
from tasks.storage.object_store import ObjectStore
from tests.clients import front_page, prefect_api
from tests.infra.browser import Page
from tests.infra.front_page.in_process import ask
from tests.infra.front_page.settled import SETTLED
from tests.tasks.catalogue.registry import register
from tests.tasks.dataset.archives import good, image, zipped

STORE = ObjectStore("datasets")
FOLDER = "tab-datasets"
CHECKED, OTHER = f"{FOLDER}/checked.zip", f"{FOLDER}/other.zip"
HOSTILE = [f"{FOLDER}/odd/{name}.zip" for name in ("<b>&\"'", "%2e%2F", "ünï😀", "new\nline", " a+b?c#d ")]
MANY = [f"{FOLDER}/many/{number:03}.zip" for number in range(100)]
MODEL = "tab-datasets"
NEXT = re.compile(r'hx-get="([^"]*cursor=[^"]*)"')
LINK = re.compile(r'href="(/datasets/archive\?[^"]*)"')
BOX = re.compile(r'data-archive value="([^"]*)"')


@pytest.fixture(scope="module")
def site(stack: StackSettings) -> Iterator[httpx.Client]:
    """The page, and a store with a checked archive on which a version was trained, and many others."""
    STORE.put(CHECKED, zipped(good()))
    STORE.put(OTHER, zipped({**good(), "images/train/more.jpg": image(seed=9)}))
    for name in (*HOSTILE, *MANY):
        STORE.put(name, b"not checked")
    assert validate_dataset(CHECKED, return_state=True).is_completed()
    register(MODEL, {CHECKED: "of-before"})
    with front_page(stack) as client:
        yield client
    for name in HOSTILE:  # a watch in a later test would tell of them
        STORE.delete(name)


def listed(site: httpx.Client, **query: str) -> str:
    return site.get("/datasets/list", params=query).raise_for_status().text


def unescaped(pattern: re.Pattern[str], text: str) -> list[str]:
    return [html.unescape(each) for each in pattern.findall(text)]


# ---- the list -------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other_and_give_each_archive_once(site: httpx.Client) -> None:
    page = listed(site, search=f"{FOLDER}/many")
    found = unescaped(BOX, page)
    assert len(found) == datasets.ARCHIVES
    while following := unescaped(NEXT, page):
        page = site.get(following[0]).raise_for_status().text
        assert "<table" not in page
        found += unescaped(BOX, page)
    assert sorted(found) == MANY


def test_a_row_says_what_the_check_found_and_what_was_trained(site: httpx.Client) -> None:
    row = listed(site, search=CHECKED)
    assert ">valid with warnings<" in row
    assert "detect: <bdi>cat</bdi>, <bdi>dog</bdi>" in row
    assert f'<a href="/registered-models/model?name={MODEL}">{MODEL}/1</a>' in row
    (address,) = re.findall(r'hx-get="(/datasets/samples/[^"]*)"', row)
    samples = site.get(address)
    assert 0 < samples.text.count('<img src="data:image/jpeg;base64,') <= 3
    assert "max-age" in samples.headers["cache-control"]


def test_an_archive_without_a_check_has_no_pictures_and_a_run_without_a_report_has_none(site: httpx.Client) -> None:
    assert "/datasets/samples/" not in listed(site, search=MANY[0])
    none = site.get(f"/datasets/samples/{uuid4()}")
    assert (none.status_code, none.text.strip(), none.headers["cache-control"]) == (200, "", "no-store")


def test_a_name_of_any_signs_is_text_and_leads_to_its_page(site: httpx.Client) -> None:
    page = listed(site, search=f"{FOLDER}/odd")
    assert sorted(unescaped(BOX, page)) == sorted(HOSTILE)
    assert "<b>" not in page
    for link in unescaped(LINK, page):
        facts = site.get(link.replace("/archive?", "/report?"))
        assert (facts.status_code, "checked" in facts.text) == (200, True)
        assert "<b>" not in site.get(link).raise_for_status().text


def test_the_address_in_the_browser_gets_the_filters_of_the_first_page(site: httpx.Client) -> None:
    first = site.get("/datasets/list", params={"search": f"{FOLDER}/many", "verdict": "unchecked"})
    address = first.headers["hx-replace-url"]
    assert address == f"/datasets?search={FOLDER}%2Fmany&verdict=unchecked"
    assert "hx-replace-url" not in site.get(unescaped(NEXT, first.text)[0]).headers
    assert site.get("/datasets/list").headers["hx-replace-url"] == "/datasets"
    tab = site.get(address).text
    assert f'value="{FOLDER}/many"' in tab
    assert '<option value="unchecked" selected>' in tab


def test_the_list_has_one_verdict_or_any(site: httpx.Client) -> None:
    assert unescaped(BOX, listed(site, search=FOLDER, verdict="valid-with-warnings")) == [CHECKED]
    assert CHECKED not in unescaped(BOX, listed(site, search=FOLDER, verdict="unchecked"))
    assert "No archive fits these filters." in listed(site, search=FOLDER, verdict="invalid")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/datasets/list?verdict=good", "Expected a verdict of valid, valid-with-warnings"),
        ("/datasets/list?cursor=e30", "Expected a cursor of archives"),
        ("/datasets/facts?name=no-such.zip", "no &#39;no-such.zip&#39;"),
        ("/datasets/facts", "expected the name of an object"),
        ("/datasets/facts?name=../x", "leave out &#39;.&#39; and &#39;..&#39;"),
        (f"/datasets/difference?name={CHECKED}&other=no-such.zip", "s3://datasets/no-such.zip"),
        (f"/datasets/difference?name={CHECKED}&other={MANY[0]}", "cannot be compared"),
    ],
)
def test_what_cannot_be_is_refused_in_words(site: httpx.Client, path: str, words: str) -> None:
    answer = site.get(path)
    assert answer.status_code == 400
    assert words in answer.text


# ---- the page of an archive -----------------------------------------------------------------------------------------


def test_the_report_of_the_check_is_shown(site: httpx.Client) -> None:
    facts = site.get("/datasets/report", params={"name": CHECKED}).raise_for_status().text
    (report,) = re.findall(r'<iframe [^>]*src="([^"]*)"', facts)
    page = site.get(report, follow_redirects=True).raise_for_status()
    assert CHECKED in page.text
    assert page.headers["content-security-policy"].startswith("sandbox")


def test_two_archives_are_compared_and_names_are_offered(site: httpx.Client) -> None:
    difference = site.get("/datasets/difference", params={"name": CHECKED, "other": OTHER}).raise_for_status().text
    assert "added: 1\n  images/train/more.jpg" in difference
    offered = site.get("/datasets/names", params={"other": f"{FOLDER}/odd/"}).raise_for_status().text
    assert sorted(unescaped(re.compile(r'<option value="([^"]*)"'), offered)) == sorted(HOSTILE)


@pytest.mark.usefixtures("site")
def test_one_comparison_is_made_at_a_time() -> None:
    path = str(httpx.URL("/datasets/difference", params={"name": CHECKED, "other": OTHER}))
    with datasets._COMPARISON:
        busy = ask(path)
    assert (busy.status_code, "found another going on" in busy.text) == (400, True)
    assert ask(path).status_code == 200


def test_the_dialog_of_a_deletion_says_what_needs_the_archive(site: httpx.Client) -> None:
    same = f"{MODEL}-same"  # trained on these bytes under another name
    register(same, {"elsewhere.zip": read_archive(CHECKED).digest or ""})
    MlflowClient().set_registered_model_alias(same, "champion", "1")
    dialog = site.get("/start/delete-dataset", params={"archive": CHECKED}).raise_for_status().text
    assert f"Version {same}/1 was trained on these very bytes." in dialog
    assert f"Clients get {same}/1: it is champion." in dialog
    assert f"Clients get {MODEL}/1" not in dialog
    assert f"Version {MODEL}/1 was trained on an earlier archive of this name." in dialog
    assert "the run refuses to delete it, unless force is true" in dialog
    unneeded = site.get("/start/delete-dataset", params={"archive": MANY[0]}).raise_for_status().text
    assert "It has not been checked" in unneeded
    assert "Nothing is known that needs it." in unneeded


# ---- services that are away -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("site")
def test_while_mlflow_is_away_the_list_says_so_and_the_lineage_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found = ask(f"/datasets/list?search={CHECKED}")
    assert (found.status_code, "MLflow is away" in found.text) == (200, True)
    lineage = ask(f"/lineage?name=s3://datasets/{CHECKED}")
    assert (lineage.status_code, "MLflow" in lineage.text) == (502, True)


@pytest.mark.usefixtures("site")
def test_while_the_store_is_away_the_panel_says_so_and_the_tab_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert ask("/datasets").status_code == 200
    away = ask("/datasets/list")
    assert (away.status_code, "The object store failed" in away.text) == (502, True)
    assert ask(f"/datasets/samples/{uuid4()}").text.strip() == ""


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tab(stack: StackSettings, site: httpx.Client, browser: Page) -> Iterator[Page]:  # noqa: ARG001
    """The browser of a person who has given the password, at the list of our archives."""
    with browser.new_tab() as page:
        page.resize(1280, 900)
        address = f"127.0.0.1:{stack.live_port}/datasets?search={FOLDER}"
        page.open(f"http://studio:{stack.secrets['front_page']}@{address}")
        page.open(f"http://{address}")
        page.wait("document.querySelectorAll('[data-archive]').length > 0")
        yield page


def rows(page: Page) -> int:
    count: int = page.js("document.querySelectorAll('[data-archive]').length")
    return count


def search(page: Page, text: str) -> None:
    page.js(
        f"document.getElementById('search').value = {json.dumps(text)};"
        "document.getElementById('search').dispatchEvent(new Event('input', {bubbles: true}))"
    )


def press(page: Page, selector: str, text: str = "") -> None:
    page.js(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find(each => each.textContent.includes({json.dumps(text)})).click()"
    )


def open_dialog(page: Page, selector: str, text: str = "") -> None:
    press(page, selector, text)
    page.wait("document.getElementById('dialog').open")


def follow(page: Page, selector: str) -> None:
    page.open(page.js(f"document.querySelector({json.dumps(selector)}).href"))


def runs_of(stack: StackSettings, flow: str, model: str) -> list[dict[str, Any]]:
    with prefect_api(stack) as api:
        query = {"flows": {"name": {"any_": [flow]}}}
        runs: list[dict[str, Any]] = api.post("/flow_runs/filter", json=query).raise_for_status().json()
    return [run for run in runs if run["parameters"].get("model_name") == model]


def test_the_list_goes_on_as_it_is_scrolled(tab: Page) -> None:
    assert rows(tab) == datasets.ARCHIVES
    every = len({CHECKED, OTHER, *HOSTILE, *MANY})
    tab.wait(f"scrollTo(0, document.body.scrollHeight); document.querySelectorAll('[data-archive]').length === {every}")
    assert tab.js("new Set([...document.querySelectorAll('[data-archive]')].map(each => each.value)).size") == every
    # It is asked for again as long as it is, and whoever uses the keyboard stays where they are.
    tab.wait(f"{SETTLED} && (document.querySelector('tbody a').focus() ?? true)")
    focused = tab.js("document.activeElement.href")
    STORE.put(f"{FOLDER}/a-late.zip", b"late")
    tab.js("document.body.dispatchEvent(new Event('studio:slow-tick'))")
    tab.wait(
        f"document.querySelectorAll('[data-archive]').length >= {every} && "
        "document.querySelector('tbody a').href.includes('a-late')"
    )
    tab.wait(f"document.activeElement.href === {json.dumps(focused)}")
    STORE.delete(f"{FOLDER}/a-late.zip")


def test_a_search_stays_in_the_address_and_the_selection_on_the_page(tab: Page) -> None:
    press(tab, "[data-archive]")
    search(tab, f"{FOLDER}/odd")
    tab.wait(f"document.querySelectorAll('[data-archive]').length === {len(HOSTILE)}")
    press(tab, "[data-archive]")
    assert tab.js("document.getElementById('train').textContent") == "Train on 2 archives"
    address = tab.js("location.href")
    search(tab, FOLDER)
    tab.wait(f"document.querySelectorAll('[data-archive]').length === {datasets.ARCHIVES}")
    tab.wait("document.querySelector('[data-archive]').checked")
    press(tab, "#clear")
    assert tab.js(
        "[document.getElementById('selection').hidden, document.querySelector('[data-archive]').checked]"
    ) == [
        True,
        False,
    ]
    tab.open(address)
    tab.wait(f"document.querySelectorAll('[data-archive]').length === {len(HOSTILE)}")


def test_what_was_uploaded_comes_into_the_list(tab: Page) -> None:
    search(tab, f"{FOLDER}/late")
    tab.wait("document.querySelectorAll('[data-archive]').length === 0")
    STORE.put(f"{FOLDER}/late.zip", b"late")
    tab.js("document.body.dispatchEvent(new CustomEvent('studio:uploaded'))")
    tab.wait("document.querySelectorAll('[data-archive]').length === 1")
    STORE.delete(f"{FOLDER}/late.zip")


def test_a_row_says_when_its_check_has_ended_and_stays_selected(tab: Page) -> None:
    name = f"{FOLDER}/awaited.zip"
    STORE.put(name, zipped(good()))
    search(tab, name)
    tab.wait("document.querySelectorAll('[data-archive]').length === 1")
    press(tab, "[data-archive]")
    assert validate_dataset(name, return_state=True).is_completed()
    assert tab.js("document.querySelector('tbody .badge').textContent") == "not checked"
    tab.js("document.body.dispatchEvent(new Event('studio:slow-tick'))")
    tab.wait("document.querySelector('tbody .badge').textContent === 'valid with warnings'")
    tab.wait("document.querySelector('[data-archive]').checked")
    STORE.delete(name)


def test_a_selection_that_no_address_takes_is_said(tab: Page) -> None:
    press(tab, "[data-archive]")
    too_many = "[document.getElementById('train').disabled, !document.getElementById('too-many').hidden]"
    assert tab.js(too_many) == [False, False]
    tab.js("choose('x'.repeat(LONGEST)); show()")
    assert tab.js(too_many) == [True, True]
    press(tab, "#selection li:last-child button")
    assert tab.js(too_many) == [False, False]


def test_two_selected_archives_are_what_the_training_gets(stack: StackSettings, tab: Page) -> None:
    search(tab, f"{FOLDER}/many/00")
    tab.wait("document.querySelectorAll('[data-archive]').length === 10")
    tab.js("[...document.querySelectorAll('[data-archive]')].slice(3, 5).forEach(each => each.click())")
    open_dialog(tab, "#train")
    model = f"tab-{uuid4().hex[:8]}"
    tab.js(f"document.getElementById('p-model_name').value = '{model}'")
    press(tab, "#dialog .main", "Start")
    tab.wait("document.querySelector('.started') !== null")
    (run,) = runs_of(stack, "train-model", model)
    assert run["parameters"]["archives"] == MANY[3:5]
    assert {"model_name", "archives"} <= run["parameters"].keys()
    deployed_flows.cancel(UUID(run["id"]))


def test_a_row_leads_to_the_report_and_the_lineage(tab: Page) -> None:
    search(tab, CHECKED)
    tab.wait("document.querySelectorAll('[data-archive]').length === 1")
    tab.wait("document.querySelectorAll('.samples img').length > 0")
    follow(tab, "tbody th a")
    tab.wait("document.querySelector('iframe') !== null")
    tab.wait("[...document.querySelectorAll('.picture img')].some(each => each.naturalWidth > 0)")
    tab.js(f"document.getElementById('other').value = {json.dumps(OTHER)}")
    press(tab, "button", "Compare")
    tab.wait("document.querySelector('#difference').textContent.includes('added: 1')")
    open_dialog(tab, "button", "Check again")
    assert tab.js("document.getElementById('p-archive').value") == CHECKED


def test_an_archive_is_deleted(tab: Page) -> None:
    name = f"{FOLDER}/gone & <b>.zip"
    STORE.put(name, b"not for long")
    search(tab, name)
    tab.wait("document.querySelectorAll('[data-archive]').length === 1")
    follow(tab, "tbody th a")
    tab.wait(f"document.querySelector('.facts') !== null && {SETTLED}")
    open_dialog(tab, "button", "Delete")
    assert "Nothing is known that needs it." in tab.js("document.getElementById('dialog').textContent")
    press(tab, "#dialog .main", "Start")
    run = tab.wait("document.querySelector('.started a[target]')?.href.split('/').at(-1)")
    assert deployed_flows.wait(UUID(run), 120).is_completed()
    assert not STORE.exists(name)


def test_nothing_is_wider_than_the_window(tab: Page) -> None:
    press(tab, "[data-archive]")
    tab.assert_no_wider(360, 768, 910, 1920)
    follow(tab, "tbody th a")
    tab.wait("document.querySelector('pre') !== null")
    tab.assert_no_wider(360, 768, 910, 1920)
