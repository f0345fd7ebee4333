"""The doors of the front page, tried at every route that it has."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route

from infra.front_page.access import TOKEN_HEADER, is_open, token
from infra.front_page.application import application
from infra.stack_settings import ROOT, StackSettings
from tests.clients import front_page
from tests.infra.front_page.test_live import NO_SERVICES

APP = application(NO_SERVICES)
RUN = "7d444840-9dc0-41d1-b245-5ffdce74fad2"
USER = ("studio", NO_SERVICES.password)
CHAPTER = re.search(r"^## The front page.*?(?=^## )", (ROOT / "docs/security.md").read_text(), re.DOTALL | re.MULTILINE)
ROWS = re.findall(r"^\| a (?:stranger|program) .*", CHAPTER[0] if CHAPTER else "", re.MULTILINE)
OPEN = set(re.findall(r"`(/[^`]+)`", "".join(ROWS)))
HOME = {"Host": "127.0.0.1:8003", "Origin": "http://127.0.0.1:8003"}
FOREIGN = [
    {"Host": "evil.example"},  # a name that points here
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


def routes() -> Iterator[tuple[str, str, str]]:
    """The pattern of each route, an address that it has, and each of its methods."""
    for route in APP.routes:
        if isinstance(route, Mount):
            yield route.path, f"{route.path}/studio.js", "GET"
        else:
            assert isinstance(route, Route)
            address = re.sub(r"\{\w+:int\}", "0", route.path.replace("{run:uuid}", RUN))
            address = re.sub(r"\{\w+\}|\{\w+:path\}", "x", address)
            for method in sorted(route.methods or ()):
                yield route.path, address, method


CLOSED = [(address, method) for pattern, address, method in routes() if pattern not in OPEN]
ACTING = sorted({address for address, method in CLOSED if method not in {"GET", "HEAD"}})


def ask(address: str, method: str, **options: Any) -> httpx.Response:
    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://127.0.0.1:8003") as client:
            return await client.request(method, address, **options)

    return asyncio.run(answer())


def test_what_needs_no_password_is_what_the_docs_say() -> None:
    assert {pattern for pattern, address, _ in routes() if is_open(address)} == OPEN
    assert len(CLOSED) > 20
    assert "/start/x" in ACTING


@pytest.mark.parametrize("auth", [None, ("studio", "x"), ("studio", ""), ("", "p"), ("admin", NO_SERVICES.password)])
def test_without_the_password_nothing_answers(auth: tuple[str, str] | None) -> None:
    unknown = [("/x", "GET"), ("/live/", "GET"), ("/livex", "GET"), ("/predict", "POST")]
    answers = {each: ask(*each, auth=auth).status_code for each in [*CLOSED, *unknown]}
    assert {each: status for each, status in answers.items() if status != 401} == {}


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_gets_nothing_even_with_password_and_token(headers: dict[str, str]) -> None:
    every = [(address, method) for _, address, method in routes()]
    known = {TOKEN_HEADER: token(NO_SERVICES.password)}
    answers = {each: ask(*each, auth=USER, headers=HOME | known | headers).status_code for each in every}
    assert {each: status for each, status in answers.items() if status != 403} == {}


@pytest.mark.parametrize("given", [None, "", token("another"), NO_SERVICES.password])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "x"])
def test_nothing_acts_without_the_token_of_our_own_pages(given: str | None, method: str) -> None:
    headers = HOME if given is None else HOME | {TOKEN_HEADER: given}
    for address in ACTING:
        answer = ask(address, method, auth=USER, headers=headers, params={TOKEN_HEADER: token(NO_SERVICES.password)})
        assert (answer.status_code, TOKEN_HEADER in answer.json()["error"]) == (403, True), address


def test_what_acts_does_not_act_by_get() -> None:
    own = {address for pattern, address, method in routes() if method == "GET"}
    for address in ACTING:
        assert address in own or ask(address, "GET", auth=USER).status_code == 405


def test_no_page_of_ours_is_shown_inside_another(stack: StackSettings) -> None:
    """Not with an error either: who clicks sees what is clicked."""
    with front_page(stack) as page:
        answers = {address: page.get(address) for address, method in CLOSED if method == "GET"}
        answers |= {address: page.get(address) for address in ("/live", "/x")}
    policies = {
        address: answer.headers["content-security-policy"]
        for address, answer in answers.items()
        if answer.headers.get("content-type", "").startswith("text/html")
    }
    assert len(policies) > 10
    assert [address for address, policy in policies.items() if "frame-ancestors 'none'" not in policy] == []
