"""Which Triton the live page asks, and when it has servers put right; real ones: tests/flows."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from infra.front_page import live, server_watch
from infra.front_page.application import Services, application
from tasks.orchestration import deployed_flows
from tests.infra.front_page.in_process import NOBODY, PASSWORD


class StandIn(BaseHTTPRequestHandler):
    """A Triton that serves `version` of m, and answers live requests with `status`."""

    version, status, asked, port = 1, 200, 0, 0
    hangs: threading.Event | None = None

    def do_GET(self) -> None:
        if self.hangs:
            self.hangs.wait(30)
        number = str(self.version)
        champion = {"champion": {"string_value": number}}
        self._say(200, {"version_policy": {"specific": {"versions": [number]}}, "parameters": champion})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/index"):
            return self._say(200, [{"name": "m"}, {"name": "m.candidate"}] if self.version else [])
        type(self).asked += 1
        answer = {"outputs": [{"data": [json.dumps({"from": self.port})]}]}
        return self._say(self.status, answer if self.status == 200 else {"error": "as the test wants it"})

    def _say(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def pair() -> Iterator[list[type[StandIn]]]:
    servers = list[ThreadingHTTPServer]()
    found = list[type[StandIn]]()
    for _ in range(2):

        class Handler(StandIn):
            """One of the two."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Handler.port = servers[-1].server_port
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        found.append(Handler)
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(addresses: list[str], count: int) -> list[httpx.Response]:
    """So many live requests to the page, one after the other."""
    app = application(
        Services(
            triton_url=NOBODY,
            triton_key="",
            password=PASSWORD,
            store_url=f"http://{NOBODY}",
            list_tritons=lambda: addresses,
        )
    )

    async def answers() -> list[httpx.Response]:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client,
        ):
            return [await client.post("/predict/m", content=b"x") for _ in range(count)]

    return asyncio.run(answers())


def addresses_of(pair: list[type[StandIn]]) -> list[str]:
    return [f"127.0.0.1:{each.port}" for each in pair]


def test_live_requests_are_spread_over_the_tritons(pair: list[type[StandIn]]) -> None:
    answers = ask(addresses_of(pair), 6)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [each.asked for each in pair] == [3, 3]


def test_a_triton_that_is_gone_or_hangs_costs_no_live_request(
    pair: list[type[StandIn]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PROBE_TIMEOUT_S", 0.5)
    pair[0].hangs = threading.Event()
    began = time.monotonic()
    answers = ask([NOBODY, *addresses_of(pair)], 6)
    pair[0].hangs.set()
    assert time.monotonic() - began < 2, "it waited for one that hangs each time"
    assert [answer.json() for answer in answers] == [{"from": pair[1].port}] * 6


@pytest.mark.parametrize("status", [404, 503])
def test_one_that_does_not_have_the_model_yet_leaves_it_to_another(pair: list[type[StandIn]], status: int) -> None:
    pair[0].status = status
    assert [answer.status_code for answer in ask(addresses_of(pair), 4)] == [200] * 4
    pair[1].status = status
    assert [answer.status_code for answer in ask([*addresses_of(pair), NOBODY], 4)] == [status] * 4


def test_what_one_refuses_no_other_is_asked(pair: list[type[StandIn]]) -> None:
    for each in pair:
        each.status = 400
    assert [answer.status_code for answer in ask(addresses_of(pair), 4)] == [400] * 4
    assert sum(each.asked for each in pair) == 4


def compare(addresses: list[str]) -> str | None:
    async def found() -> str | None:
        async with httpx.AsyncClient() as client:
            return server_watch.difference(await server_watch.read_all(client, addresses, "key"))

    return asyncio.run(found())


def test_servers_differ_by_what_they_serve_and_not_by_who_is_away(pair: list[type[StandIn]]) -> None:
    addresses = [*addresses_of(pair), NOBODY]
    assert compare(addresses) is None
    pair[1].version = 2
    first = compare(addresses)
    assert first is not None
    assert compare(addresses) == first
    pair[1].version = 0
    assert compare(addresses) not in {None, first}


def watch(addresses: list[str], seconds: float) -> None:
    async def run() -> None:
        async with httpx.AsyncClient() as client, server_watch.watching(client, lambda: addresses, "key"):
            await asyncio.sleep(seconds)

    asyncio.run(run())


def test_a_run_puts_servers_right_that_differ_twice_in_a_row(
    pair: list[type[StandIn]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Prefect is asked for; that it starts one run for one key is Prefect's own."""
    started: list[str] = []
    monkeypatch.setattr(server_watch, "EVERY_S", 0.05)
    monkeypatch.setattr(
        deployed_flows, "start", lambda flow, _, idempotency_key: started.append(idempotency_key or flow)
    )
    watch(addresses_of(pair), 0.5)
    assert started == []
    pair[1].version = 2
    watch(addresses_of(pair)[:1], 0.5)
    assert started == []
    monkeypatch.setattr(server_watch, "EVERY_S", 1.0)
    watch(addresses_of(pair), 1.7)
    assert started == [], "they may differ in the middle of a rollout"
    monkeypatch.setattr(server_watch, "EVERY_S", 0.05)
    watch(addresses_of(pair), 1.0)
    assert len(started) > 1
    assert len(set(started)) <= 2  # by the clock
    assert started[0].startswith("repair-servers ")
