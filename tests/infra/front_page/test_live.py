"""The page of live predictions: its server in front of Triton, and itself in a real browser."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from infra.front_page import live, picture_room
from infra.front_page.application import Services, application
from infra.rotation import state
from infra.rotation.state import Rotation
from infra.stack_settings import StackSettings
from tasks.serving.served_model import ServedModel
from tests.clients import front_page
from tests.infra.browser import OpenBrowser, Page
from tests.tasks.serving.graphs import constant_graph, encoded, publish, rows, serve

NO_SERVICES = Services(triton_url="127.0.0.1:9", triton_key="", password="p", store_url="http://127.0.0.1:9")
SIZE = 64
MODEL = ServedModel(
    name="page-segment",
    version=1,
    task="segment",
    image_size=SIZE,
    class_names=("cat", "dog <b>"),
    run_id="no-run",
    thresholds={"cat": 0.95},
)
# In pixels of a picture of 128 x 96: a cat at (16, 8, 80, 72) with a mask that fills its box, a dog in the right half.
OUTPUTS = {
    "detections": rows((8, 12, 40, 44, 0.9, 0), (44, 16, 60, 40, 0.6, 1)),
    "coefficients": rows((1.0,), (1.0,), width=1),
    "prototypes": np.ones((1, 16, 16), np.float32),
}


@pytest.fixture(scope="module")
def address(stack: StackSettings) -> str:
    publish(MODEL, constant_graph(SIZE, OUTPUTS))
    serve([MODEL], champion=1)
    return f"http://127.0.0.1:{stack.live_port}"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    path.write_bytes(encoded(np.full((96, 128, 3), 90, np.uint8)))
    return path


# ---- the server -----------------------------------------------------------------------------------------------------


def test_curl_gets_plain_json(address: str, photo: Path) -> None:
    answer = httpx.post(f"{address}/predict/{MODEL.name}?confidence=0.7", content=photo.read_bytes()).json()
    assert (answer["labels"], answer["boxes"]) == (["cat"], [[16, 8, 80, 72]])
    answer = httpx.post(f"{address}/predict/{MODEL.name}?confidence=auto", content=photo.read_bytes()).json()
    assert answer["labels"] == ["dog <b>"]


def test_what_is_served_is_listed(address: str) -> None:
    listed = {model["name"]: model for model in httpx.get(f"{address}/models").json()}
    assert listed[MODEL.name] == {
        "name": MODEL.name,
        "version": 1,
        "versions": [1],
        "task": "segment",
        "image_size": SIZE,
        "classes": list(MODEL.class_names),
        "thresholds": {"cat": 0.95},
    }
    assert "predict" not in listed


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("/predict/stranger", b"\xff\xd8\xff", 404, "expected a model that is served"),
        (f"/predict/{MODEL.name}", b"text", 400, "expected a JPEG or PNG file"),
        (f"/predict/{MODEL.name}?version=..%2F1", b"text", 400, "expected `version` as a whole number"),
        (f"/predict/{MODEL.name}?conf=0.4", b"text", 400, "version, confidence, iou, found 'conf': leave it out"),
        ("/predict/a%0d%0ab:%20c", b"text", 400, "expected a"),
        (f"/predict/{MODEL.name}", bytes(live.MAX_BYTES + 1), 413, "expected at most 33554432 bytes"),
    ],
)
def test_refusals_are_reported_in_words(address: str, path: str, content: bytes, status: int, words: str) -> None:
    answer = httpx.post(address + path, content=content, timeout=30)
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v2/repository/index", "/v2/repository/models/x/load", "/predict/a%2Fb", "/predict/"]
)
def test_nothing_else_reaches_triton(stack: StackSettings, path: str) -> None:
    with front_page(stack) as client:
        assert client.post(path, content=b"{}").status_code in {404, 405}


def test_other_sites_get_nothing_and_the_page_loads_nothing_from_them(address: str) -> None:
    assert httpx.get(f"{address}/live", headers={"Host": "evil.example"}).status_code == 403
    answer = httpx.get(f"{address}/live")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    assert "https://" not in answer.text.replace("https.", "")


async def _request_without_triton(path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    app = application(NO_SERVICES)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (
                await client.post(path, content=b"x", headers=headers) if "predict" in path else await client.get(path)
            )


@pytest.mark.parametrize("path", ["/models", "/predict/x"])
def test_a_triton_that_is_away_is_named(path: str) -> None:
    answer = asyncio.run(_request_without_triton(path))
    assert answer.status_code == 502
    assert "start it with `studio up`" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/models", "/predict/x"])
def test_a_triton_that_gets_its_new_key_is_waited_for(path: str, tmp_path: Path) -> None:
    state.write(tmp_path, Rotation(former={}, new={}))
    statuses: list[int | Exception] = [httpx.ConnectError("away"), 503, 500, 404]

    async def ask() -> tuple[int, float]:
        app = application(replace(NO_SERVICES, stack=StackSettings(state_dir=tmp_path)))

        def triton(request: httpx.Request) -> httpx.Response:
            status = statuses.pop(0)
            if isinstance(status, Exception):
                raise status
            return httpx.Response(status, json={"error": "so"}, request=request)

        async with app.router.lifespan_context(app):
            app.state.triton = httpx.AsyncClient(transport=httpx.MockTransport(triton))
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                began = time.monotonic()
                answer = await (client.get(path) if path == "/models" else client.post(path, content=b"x"))
                return answer.status_code, time.monotonic() - began

    status, took = asyncio.run(ask())
    assert (status, statuses) == (404, [])  # what it says of the request itself is handed on at once
    assert took < 5


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Length": str(live.MAX_BYTES + 1)}, 413),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"}, 502),
        ({"Sec-Fetch-Site": "none"}, 502),
    ],
)
def test_a_picture_of_another_sites_page_is_refused_and_a_long_one_not_read(
    headers: dict[str, str], status: int
) -> None:
    assert asyncio.run(_request_without_triton("/predict/x", headers)).status_code == status


def test_only_so_many_pictures_are_read_at_one_time() -> None:
    assert asyncio.run(_most_read_at_once(live.LARGE_AT_ONCE + 5)) == live.LARGE_AT_ONCE


async def _most_read_at_once(clients: int) -> int:
    app, most, reading = application(NO_SERVICES), 0, 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal most, reading
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0.05)
        reading -= 1
        yield b"x"

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client,
    ):
        await asyncio.gather(*(client.post("/predict/x", content=body()) for _ in range(clients)))
    return most


def test_clients_that_send_one_byte_and_no_more_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_room, "GRACE_S", 0.2)
    slow, seconds = asyncio.run(_answers_beside_slow_clients(live.SMALL_AT_ONCE + 20))
    assert set(slow) == {408}
    assert seconds < 5


async def _answers_beside_slow_clients(clients: int) -> tuple[list[int], float]:
    """What so many slow clients are answered, and how long another one waits for its answer."""
    app = application(NO_SERVICES)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(3600)

    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client,
    ):
        length = {"Content-Length": "100000"}
        slow = [asyncio.create_task(client.post("/predict/x", content=body(), headers=length)) for _ in range(clients)]
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        assert (await client.post("/predict/x", content=b"x")).status_code == 502  # there is no Triton
        seconds = asyncio.get_running_loop().time() - began
        more = [asyncio.create_task(client.post("/predict/x", content=b"x")) for _ in range(live.SMALL_AT_ONCE + 1)]
        answers = await asyncio.wait_for(asyncio.gather(*slow), 10)
        await asyncio.gather(*more)
    return [answer.status_code for answer in answers], seconds


def _config(**parameters: str) -> httpx.Response:
    own = {"task.1": "detect", "image_size.1": "64", "class_names.1": '["cat"]', "run_id.1": "r", "digest.1": "d"}
    values = own | {"precision.1": "f32", "champion": "1"} | parameters
    config = {
        "name": "x",
        "version_policy": {"specific": {"versions": ["1"]}},
        "parameters": {key: {"string_value": value} for key, value in values.items() if value != "absent"},
    }
    return httpx.Response(200, json=config)


@pytest.mark.parametrize(
    "odd",
    [
        {"image_size.1": "absent"},
        {"image_size.1": "wide"},
        {"class_names.1": "absent"},
        {"class_names.1": "{"},
        {"thresholds.1": "{"},
        {"champion": "best"},
        {"champion": "0"},
    ],
)
def test_an_odd_config_is_not_listed_and_takes_no_other_with_it(odd: dict[str, str]) -> None:
    assert live._described(_config(**odd)) is None
    assert live._described(_config()) is not None


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def page(address: str, open_browser: OpenBrowser, tmp_path: Path) -> Iterator[Page]:
    with open_browser(tmp_path / "profile") as tab:
        tab.resize(1280, 900)
        tab.open(f"{address}/live")
        tab.wait("models.length > 0")
        tab.js(f"$('model').value = {json.dumps(MODEL.name)}; $('model').dispatchEvent(new Event('change'))")
        yield tab


def painted(page: Page, x: int, y: int) -> list[int]:
    """Red, green and blue of the canvas at a place in pixels of the picture."""
    pixel: list[int] = page.js(f"[...$('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data].slice(0, 3)")
    return pixel


def press(page: Page, selector: str) -> None:
    page.js(f"document.querySelector({json.dumps(selector)}).click()")


def test_a_picked_photo_is_shown_with_what_was_found(page: Page, photo: Path) -> None:
    page.choose("#file", photo)
    page.wait("shown && shown.answer.labels.length === 2")
    grey = [90, 90, 90]
    assert page.js("[$('canvas').width, $('canvas').height]") == [128, 96]
    assert painted(page, 100, 90) == grey
    box, mask = painted(page, 16, 60), painted(page, 60, 60)
    assert box != grey
    assert mask not in (grey, box)

    press(page, "#shapes")
    assert painted(page, 60, 60) == grey
    assert painted(page, 16, 60) != grey
    press(page, "#boxes")
    assert painted(page, 16, 60) == grey
    press(page, "#boxes")
    press(page, "[data-label=cat]")
    assert painted(page, 16, 60) == grey
    assert painted(page, 88, 40) != grey
    assert page.js("[...document.querySelectorAll('.class')].map(each => each.innerText.replace(/\\s+/g, ' '))") == [
        "cat 1",
        "dog <b> 1",
    ]


def test_the_slider_asks_the_server_again_and_the_json_can_be_read(page: Page, photo: Path) -> None:
    page.choose("#file", photo)
    page.wait("shown")
    page.js("$('confidence').value = '0.7'; $('confidence').dispatchEvent(new Event('input'))")
    page.wait("shown.answer.labels.length === 1")
    press(page, "summary")
    shown = page.wait("$('json').textContent.length > 2 && $('json').textContent")
    assert json.loads(shown)["labels"] == ["cat"]
    press(page, "#auto")
    page.wait("shown.answer.labels[0] === 'dog <b>'")
    assert page.js("$('shown').textContent") == "auto"


def test_a_bad_file_is_reported_in_the_servers_words(page: Page, photo: Path, tmp_path: Path) -> None:
    page.choose("#file", photo)
    page.wait("shown")
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    page.choose("#file", tmp_path / "bad.jpg")
    told = page.wait("!$('error').hidden && $('error').textContent")
    assert told.startswith("Expected a JPEG or PNG file, found bytes that begin with")
    page.choose("#file", photo)
    page.wait("shown && $('error').hidden")


def test_the_webcam_sends_frame_after_frame(page: Page) -> None:
    press(page, "#webcam")
    page.wait("stream && fps > 0 && shown && shown.answer.labels.length === 2")
    first = page.js("newest")
    page.wait(f"newest > {first} + 5")
    press(page, "#webcam")
    page.wait("stream === null")
    last = page.js("newest")
    page.js("new Promise(done => setTimeout(done, 500))")
    assert page.js("newest") == last


def test_two_clicks_open_one_webcam_and_one_that_goes_is_reported(page: Page) -> None:
    page.js(
        "window.opened = []; const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
        "navigator.mediaDevices.getUserMedia = async wish => { opened.push(await get(wish)); return opened.at(-1); }"
    )
    page.js("$('webcam').click(); $('webcam').click()")
    page.wait("stream && fps > 0")
    assert page.js("opened.length") == 1
    page.js("opened[0].getTracks()[0].dispatchEvent(new Event('ended'))")
    page.wait("stream === null && !$('error').hidden")
    assert page.js("opened[0].getTracks()[0].readyState") == "ended"
    page.js("HTMLMediaElement.prototype.play = async () => { throw new Error('no play') }; $('webcam').click()")
    page.wait("$('error').textContent.includes('no play')")
    assert page.js("[stream, opened[1].getTracks()[0].readyState, $('webcam').getAttribute('aria-pressed')]") == [
        None,
        "ended",
        "false",
    ]


def test_boxes_are_drawn_in_the_pixels_of_the_answer(page: Page, photo: Path) -> None:
    page.choose("#file", photo)
    page.wait("shown")
    page.js(
        "createImageBitmap(shown.bitmap, {resizeWidth: 64, resizeHeight: 48}).then(b => { shown.bitmap = b; render() })"
    )
    page.wait("shown.bitmap.width === 64")
    assert page.js("[$('canvas').width, $('canvas').height]") == [128, 96]
    assert painted(page, 100, 90) == [90, 90, 90]


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_nothing_is_wider_than_the_window(page: Page, photo: Path, width: int) -> None:
    page.resize(width, 800)
    page.choose("#file", photo)
    page.wait("shown")
    assert page.js("document.documentElement.scrollWidth <= innerWidth")


def test_everything_is_reached_with_the_keyboard(page: Page, photo: Path) -> None:
    page.choose("#file", photo)
    page.wait("shown")
    reached = set[str]()
    for _ in range(22):  # the links of the frame come first
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(
            page.js(
                "document.activeElement.id || document.activeElement.dataset.label || document.activeElement.tagName"
            )
        )
    assert {"file", "webcam", "model", "confidence", "auto", "boxes", "shapes", "labels", "cat", "SUMMARY"} <= reached
