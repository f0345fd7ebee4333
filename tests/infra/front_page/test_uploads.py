"""Uploads in a real browser, to the real store: whole or not at all, whatever comes between."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.front_page import uploads
from infra.front_page.access import TOKEN_HEADER, token
from infra.front_page.uploads import MAX_BYTES, MAX_PARTS, part_bytes, part_sizes
from infra.stack_settings import HOST, USER, StackSettings
from tasks.dataset_watch.checks import start_checks
from tasks.dataset_watch.notifications import ObjectChange
from tasks.orchestration import deployed_flows
from tasks.orchestration.prefect_client import PrefectUnavailableError
from tasks.storage.multipart_uploads import MultipartUpload, start_upload
from tasks.storage.object_store import ObjectStore
from tests.chaos.steps import kill_service
from tests.infra.browser import Page
from tests.supervised import process_of
from tests.waiting import eventually

STORE = ObjectStore("datasets")
MIB = 1 << 20
SLOW = 16 * MIB  # bytes a second


# ---- the server -----------------------------------------------------------------------------------------------------


@given(st.integers(1, MAX_BYTES))
def test_parts_are_as_s3_wants_them_and_make_the_whole(size: int) -> None:
    each = part_bytes(size)
    whole, rest = divmod(size, each)
    assert each % MIB == 0
    assert 16 * MIB <= each <= 5 << 30
    assert whole + bool(rest) <= MAX_PARTS
    assert each == 16 * MIB or size > MAX_PARTS * (each - MIB)  # no larger than needed


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (1, {1: 1}),
        (16 * MIB, {1: 16 * MIB}),
        (32 * MIB + 5, {1: 16 * MIB, 2: 16 * MIB, 3: 5}),
    ],
)
def test_the_last_part_is_what_is_left(size: int, sizes: dict[int, int]) -> None:
    assert part_sizes(size) == sizes


@pytest.fixture
def client(stack: StackSettings) -> Iterator[httpx.Client]:
    password = stack.secrets["front_page"]
    address = f"http://{HOST}:{stack.live_port}"
    headers = {TOKEN_HEADER: token(password)}
    with httpx.Client(base_url=address, auth=(USER, password), headers=headers, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.tar", "Expected a name that ends in .zip, found 'a.tar'. Rename the file."),
        ("../a.zip", "Expected the name of a file, without a folder, found '../a.zip'"),
        ("/a.zip", "without a folder"),
        ("s3://media/a.zip", "without a folder"),
        ("a\n<b>.zip", "expected text without control characters"),
        ("ü" * 511 + ".zip", "Expected a name of at most 1024 bytes, found 1026"),
        ("", "name: "),
    ],
)
def test_a_name_that_no_flow_takes_is_refused_in_words(client: httpx.Client, name: str, words: str) -> None:
    answer = client.post("/uploads", params={"name": name, "size": 1})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("0", "which is empty"),
        ("-1", "which is empty"),
        (str(MAX_BYTES + 1), "size: "),
        ("1e9", "size: "),
        ("", "size"),
    ],
)
def test_a_size_that_no_archive_has_is_refused(client: httpx.Client, size: str, words: str) -> None:
    answer = client.post("/uploads", params={"name": f"{uuid4().hex}.zip", "size": size})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def start(client: httpx.Client, name: str, size: int, **more: Any) -> dict[str, str]:
    answer = client.post("/uploads", params={"name": name, "size": size, **more})
    assert answer.is_success, answer.text
    return {"name": name, "upload": answer.json()["upload"], "writer": answer.json()["writer"]}


def send(client: httpx.Client, known: dict[str, str], number: int, body: bytes) -> None:
    address = client.post("/uploads/parts", params={**known, "number": number}).json()["address"]
    httpx.put(address, content=body).raise_for_status()


def test_an_archive_with_a_missing_part_is_not_made(client: httpx.Client) -> None:
    name, size = f"{uuid4().hex}.zip", 17 * MIB
    known = start(client, name, size)
    send(client, known, 1, bytes(16 * MIB))
    ending = {**known, "size": str(size)}
    refused = client.post("/uploads/complete", params=ending)
    assert (refused.status_code, STORE.find(name)) == (400, None)
    assert refused.json()["error"].startswith("Expected 2 parts with 17825792 bytes, found part 2 missing or different")
    send(client, known, 2, bytes(MIB - 1))
    assert client.post("/uploads/complete", params=ending).status_code == 400
    send_again = start(client, name, size)
    assert client.get("/uploads/parts", params=known).json() == {
        "complete": False,
        "parts": {"1": 16 * MIB, "2": MIB - 1},
    }
    assert client.get("/uploads/parts", params=send_again).json()["parts"] == {}


def test_an_end_whose_answer_was_lost_is_asked_for_again_and_checks_once(client: httpx.Client) -> None:
    known = start(client, f"{uuid4().hex}.zip", 3)
    send(client, known, 1, b"abc")
    first, second = (client.post("/uploads/complete", params={**known, "size": 3}).json() for _ in range(2))
    assert first == second
    assert client.get("/uploads/parts", params=known).json() == {"complete": True, "parts": {}}
    run = deployed_flows.find(UUID(first["check"].rpartition("/")[2]))
    assert run is not None
    assert run.parameters["archive"] == known["name"]
    (started,) = start_checks([ObjectChange(bucket="datasets", key=known["name"])])
    assert started.flow_run == run.id


def test_a_taken_name_is_refused_before_a_byte_is_sent(client: httpx.Client) -> None:
    name = f"{uuid4().hex}.zip"
    STORE.put(name, b"of somebody else")
    refused = client.post("/uploads", params={"name": name, "size": 3})
    assert refused.status_code == 409
    assert "keeps the former one as an earlier version, or rename your file" in refused.json()["error"]
    assert under_way(name) == []
    assert start(client, name, 3, replace=True)["upload"]


def test_an_upload_that_is_over_is_gone(client: httpx.Client) -> None:
    known = start(client, f"{uuid4().hex}.zip", 3)
    for _ in range(2):
        assert client.delete("/uploads", params=known).json() == {}
    for method, path, more in (("GET", "parts", {}), ("POST", "complete", {"size": "3"})):
        answer = client.request(method, f"/uploads/{path}", params={**known, **more})
        assert answer.status_code == 410
        assert "It was aborted" in answer.json()["error"]


def test_without_prefect_the_archive_is_there_and_the_check_comes_later(
    stack: StackSettings,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(_: object) -> None:
        raise PrefectUnavailableError(OSError("nobody listens"))

    monkeypatch.setattr(uploads, "start_checks", away)
    upload = start_upload("datasets", f"{uuid4().hex}.zip")
    httpx.put(upload.part_address(1), content=b"abc").raise_for_status()
    asked = uploads._WholeUpload(name=upload.key, upload=upload.upload_id, writer=upload.writer, size=3)
    told = uploads.complete(asked)
    assert STORE.get(upload.key) == b"abc"
    assert told["check"] == ""
    assert "nobody listens" in str(told["message"])
    assert "watch-datasets finds it within five minutes" in str(told["message"])


def test_nothing_is_done_without_the_token_of_the_page(client: httpx.Client) -> None:
    known = start(client, f"{uuid4().hex}.zip", 3)
    for method, path in (("DELETE", ""), ("POST", ""), ("POST", "/parts"), ("POST", "/complete")):
        answer = client.request(method, f"/uploads{path}", params=known, headers={TOKEN_HEADER: ""})
        assert answer.status_code == 403
    assert client.get("/uploads/parts", params=known).status_code == 200


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def page(stack: StackSettings, browser: Page) -> Iterator[Page]:
    with browser.new_tab() as tab:
        tab.resize(1280, 900)
        sign_in(tab, stack, HOST)
        yield tab
        tab.js("localStorage.clear()")


def sign_in(page: Page, stack: StackSettings, host: str) -> None:
    page.sign_in(f"http://{host}:{stack.live_port}/datasets", USER, stack.secrets["front_page"])
    page.js("window.told = []; document.body.addEventListener('studio:uploaded', e => told.push(e.detail.name)); 0")


def make_archive(folder: Path, size: int, name: str = "") -> Path:
    path = folder / (name or f"{uuid4().hex[:8]}.zip")
    path.write_bytes(os.urandom(size))
    return path


def slow_down(page: Page, bytes_a_second: int = SLOW) -> None:
    """-1 is as fast as it goes."""
    page.call("Network.enable")
    rates = {"downloadThroughput": -1, "uploadThroughput": bytes_a_second}
    page.call("Network.emulateNetworkConditions", offline=False, latency=0, **rates)


def row(name: str) -> str:
    rows = "[...document.querySelectorAll('.upload')]"
    return f"{rows}.find(row => row.querySelector('[data-show=name]').textContent === {json.dumps(name)})"


def wait_for(page: Page, name: str, state: str, seconds: float = 60) -> str:
    """What the row of an upload says, once it is in a state."""
    page.wait(f"{row(name)}?.dataset.state === {json.dumps(state)}", seconds)
    text: str = page.js(f"{row(name)}.querySelector('[data-show=message]').textContent")
    return text


def press(page: Page, name: str, button: str) -> None:
    page.js(f"{row(name)}.querySelector('[data-do={button}]').click()")


def unfinished(name: str) -> str:
    """The row in the list of the uploads of all browsers."""
    rows = "[...document.querySelectorAll('#unfinished-uploads tr')]"
    return f"{rows}.find(row => row.textContent.includes({json.dumps(name)}))"


def under_way(name: str) -> list[MultipartUpload]:
    found = [each for each in STORE.list_uploads() if each.key == name]
    return [MultipartUpload(bucket="datasets", key=name, upload_id=each.upload_id, writer="") for each in found]


def wait_for_parts(name: str, count: int, seconds: float = 30) -> None:
    (upload,) = eventually(lambda: under_way(name), f"an upload of {name}")
    eventually(lambda: len(upload.parts()) >= count, f"{count} parts of {name}", seconds)


def parts_sent(page: Page, stack: StackSettings) -> int:
    """How many parts this page has sent since it was loaded, or since its records were cleared."""
    store = f"http://{HOST}:{stack.s3_port}/"
    count: int = page.js(f"performance.getEntriesByType('resource').filter(e => e.name.startsWith('{store}')).length")
    return count


def assert_stored(path: Path) -> None:
    assert STORE.get(path.name) == path.read_bytes()
    assert under_way(path.name) == []


def test_archives_that_are_dropped_are_stored_and_checked(page: Page, tmp_path: Path) -> None:
    paths = [make_archive(tmp_path, 40 * MIB), make_archive(tmp_path, 7, f"ü <b>'&{uuid4().hex[:6]}.zip")]
    page.drop("#drop-zone", *paths)
    for path in paths:
        assert wait_for(page, path.name, "done") == "Uploaded. Its check is started."
        assert_stored(path)
        run = page.js(f"{row(path.name)}.querySelector('[data-show=check]').href").rpartition("/")[2]
        (started,) = start_checks([ObjectChange(bucket="datasets", key=path.name)])
        assert str(started.flow_run) == run
    assert sorted(page.js("told")) == sorted(path.name for path in paths)
    assert page.js("Object.keys(localStorage)") == []


def test_it_works_by_the_name_localhost_too(page: Page, stack: StackSettings, tmp_path: Path) -> None:
    sign_in(page, stack, "localhost")
    path = make_archive(tmp_path, 7)
    page.choose("#upload-files", path)
    wait_for(page, path.name, "done")
    assert_stored(path)


def test_a_paused_upload_goes_on(page: Page, stack: StackSettings, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 100 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 2)
    assert "MB/s · " in page.wait(f"{row(path.name)}.querySelector('[data-show=figures]').textContent")
    press(page, path.name, "pause")
    assert wait_for(page, path.name, "paused") == "Paused."
    (upload,) = under_way(path.name)
    slow_down(page, -1)
    known = len(upload.parts())
    page.js("performance.clearResourceTimings()")
    press(page, path.name, "resume")
    wait_for(page, path.name, "done")
    assert_stored(path)
    assert parts_sent(page, stack) == 7 - known


def test_after_a_reload_the_same_file_goes_on_with_what_is_missing(
    page: Page, stack: StackSettings, tmp_path: Path
) -> None:
    path = make_archive(tmp_path, 100 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 3)
    page.leave(f"http://{HOST}:{stack.live_port}/datasets")
    assert "Choose the same file again" in wait_for(page, path.name, "cut")
    page.wait(f"!!{unfinished(path.name)}?.closest('[hidden]')")  # it is shown above
    (upload,) = under_way(path.name)
    known = len(upload.parts())
    assert STORE.find(path.name) is None
    slow_down(page, -1)
    page.drop("#drop-zone", path)
    wait_for(page, path.name, "done")
    assert_stored(path)
    assert parts_sent(page, stack) == 7 - known


def test_a_file_that_has_changed_starts_anew_and_says_so(page: Page, stack: StackSettings, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 60 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 1)
    page.leave(f"http://{HOST}:{stack.live_port}/datasets")
    wait_for(page, path.name, "cut")
    slow_down(page, -1)
    path.write_bytes(os.urandom(60 * MIB))
    page.drop("#drop-zone", path)
    assert "has changed since its upload began, so it starts anew" in wait_for(page, path.name, "done")
    assert_stored(path)


def test_another_file_of_its_name_does_not_end_an_upload(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 50 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 1)
    (tmp_path / "other").mkdir()
    page.drop("#drop-zone", make_archive(tmp_path / "other", 7, path.name))
    second = "document.querySelectorAll('.upload')[1].textContent"
    page.wait(f"{second}?.includes('Another file of this name is being uploaded')")
    slow_down(page, -1)
    wait_for(page, path.name, "done")
    assert_stored(path)


def test_a_file_that_changes_under_its_upload_is_asked_for_again(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 100 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 1)
    path.write_bytes(os.urandom(20 * MIB))
    os.utime(path, (1, 1))
    assert "has changed on this disk. Choose it again" in wait_for(page, path.name, "cut")
    assert STORE.find(path.name) is None
    slow_down(page, -1)
    page.drop("#drop-zone", path)
    wait_for(page, path.name, "done")
    assert_stored(path)


def test_a_taken_name_is_replaced_only_if_a_person_says_so(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 7)
    STORE.put(path.name, b"of somebody else")
    page.drop("#drop-zone", path)
    assert f"found '{path.name}' in bucket datasets already" in wait_for(page, path.name, "taken")
    assert STORE.get(path.name) == b"of somebody else"
    press(page, path.name, "replace")
    wait_for(page, path.name, "done")
    assert_stored(path)


def test_a_name_that_is_taken_meanwhile_is_asked_about_at_the_end(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 20 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    eventually(lambda: under_way(path.name), "an upload")
    STORE.put(path.name, b"of somebody else")
    wait_for(page, path.name, "taken")
    assert STORE.get(path.name) == b"of somebody else"
    press(page, path.name, "abort")
    page.wait(f"!{row(path.name)}")
    assert STORE.get(path.name) == b"of somebody else"
    assert under_way(path.name) == []


def test_an_aborted_upload_leaves_nothing(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 60 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 1)
    press(page, path.name, "abort")
    page.wait(f"!{row(path.name)}")
    assert under_way(path.name) == []
    assert STORE.find(path.name) is None
    assert page.js("Object.keys(localStorage)") == []


@pytest.mark.heavy
def test_a_store_that_is_killed_loses_nothing(page: Page, stack: StackSettings, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 100 * MIB)
    slow_down(page)
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 1)
    kill_service(stack, "object-store")
    page.wait(f"{row(path.name)}.innerText.includes('Tries again in')")
    wait_for(page, path.name, "done", 120)
    assert_stored(path)


def test_a_name_that_is_refused_is_said_and_the_others_go_on(page: Page, tmp_path: Path) -> None:
    text, good = make_archive(tmp_path, 7, "a.txt"), make_archive(tmp_path, 7)
    page.drop("#drop-zone", text, good)
    wait_for(page, good.name, "done")
    assert "Expected a name that ends in .zip" in wait_for(page, "a.txt", "refused")
    press(page, "a.txt", "close")
    assert not page.js(f"!!{row('a.txt')}")


def test_two_tabs_do_not_upload_one_name(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 7)
    lock = json.dumps(f"studio.upload.{path.name}")
    page.js(f"navigator.locks.request({lock}, () => new Promise(done => {{ window.free = done }})); 0")
    page.wait("!!window.free")
    page.drop("#drop-zone", path)
    assert "Another tab of this browser" in wait_for(page, path.name, "refused")
    page.js("free()")
    page.drop("#drop-zone", path)
    wait_for(page, path.name, "done")


def test_what_nobody_has_ended_is_listed_and_can_be_aborted(page: Page, stack: StackSettings) -> None:
    upload = start_upload("datasets", f"<i>'{uuid4().hex[:8]}.zip")
    page.open(f"http://{HOST}:{stack.live_port}/datasets")
    found = unfinished(upload.key)
    page.wait(f"{found} && !{found}.closest('[hidden]')")
    page.js(f"window.confirm = () => true; {found}.querySelector('button').click()")
    page.wait(f"!{found}")
    assert under_way(upload.key) == []


def test_nothing_is_wider_than_the_window(page: Page, tmp_path: Path) -> None:
    path = make_archive(tmp_path, 7, f"{uuid4().hex * 6}.zip")
    page.choose("#upload-files", path)
    wait_for(page, path.name, "done")
    page.assert_no_wider(360, 1280)


@pytest.mark.heavy
@pytest.mark.timeout(1000)
def test_five_gigabytes_survive_a_reload(page: Page, stack: StackSettings, tmp_path: Path) -> None:
    """And none of them passes through the page's server, whose memory does not grow."""
    path = tmp_path / f"{uuid4().hex[:8]}.zip"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(320):
            block = os.urandom(16 * MIB)
            digest.update(block)
            file.write(block)
    server = process_of(stack, "studio")
    before = server.memory_info().rss
    began = time.monotonic()
    page.drop("#drop-zone", path)
    wait_for_parts(path.name, 100, 300)
    page.leave(f"http://{HOST}:{stack.live_port}/datasets")
    page.js("performance.setResourceTimingBufferSize(2000)")  # else it stops counting at 250
    wait_for(page, path.name, "cut")
    page.drop("#drop-zone", path)
    most = 0
    while page.js(f"{row(path.name)}.dataset.state") != "done":
        most = max(most, server.memory_info().rss)
        assert time.monotonic() - began < 800
        time.sleep(0.5)
    assert parts_sent(page, stack) <= 220
    found = STORE.find(path.name)
    assert found is not None
    assert found.size == 320 * 16 * MIB
    assert STORE.sha256(path.name, found.etag) == digest.hexdigest()
    print(f"5.4 GB in {time.monotonic() - began:.0f} s, memory of the server {(most - before) / MIB:+.1f} MiB")
    assert most - before < 16 * MIB
    path.unlink()  # pytest keeps the folders of three sessions
