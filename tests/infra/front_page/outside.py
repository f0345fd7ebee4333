"""A stand-in for the front door: it asks the front page about each request, and passes on what may pass, as Caddy does.

It has no TLS and does not listen, so that a test of a page takes milliseconds.
"""

import asyncio
from http.cookies import SimpleCookie
from typing import Any

import httpx

from infra.accounts.database import Database
from infra.accounts.visitors import CHECK, NAME_HEADER, ROLE_HEADER, SECRET_HEADER
from infra.front_page.access import TOKEN_HEADER, token
from infra.front_page.application import Services, application
from infra.stack_settings import StackSettings
from tests.stack_environment import CLOSED

HOST = "studio.example:8443"
ORIGIN = f"https://{HOST}"
SECRET = "of the front door"
OWN_PASSWORD = "of the machine"
NOWHERE = f"127.0.0.1:{CLOSED}"


def services_with(settings: StackSettings) -> Services:
    """The front page with accounts, and without any other service."""
    return Services(
        triton_url=NOWHERE,
        triton_key="",
        password=OWN_PASSWORD,
        store_url=f"http://{NOWHERE}",
        front_door_secret=SECRET,
        accounts_url=settings.accounts_url,
    )


class Browser:
    """A browser of somebody outside, with its cookies; `key` is that of its session."""

    def __init__(self, app: Any, address: str = "192.0.2.7") -> None:
        self._app = app
        self._address = address
        self.cookies: dict[str, str] = {}

    @property
    def key(self) -> str:
        return self.cookies.get("__Host-studio-session", "")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"} | headers)

    def act(self, path: str, **fields: str) -> httpx.Response:
        """What htmx sends from one of our pages."""
        own = {TOKEN_HEADER: token(self.key), "HX-Request": "true", "Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
        return self.request("POST", path, own, fields)

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, fields: dict[str, str] | None = None
    ) -> httpx.Response:
        sent = httpx.Headers(headers or {})
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = asyncio.run(self._answer(method, path, sent, fields))
        for line in answer.headers.get_list("set-cookie"):
            (cookie,) = SimpleCookie(line).values()
            assert cookie.key.startswith("__Host-")
            assert (cookie["secure"], cookie["httponly"], cookie["path"], cookie["domain"]) == (True, True, "/", "")
            assert cookie["samesite"] == "lax"
            if cookie["max-age"] == "0":
                self.cookies.pop(cookie.key, None)
            else:
                self.cookies[cookie.key] = cookie.value
        return answer

    async def _answer(
        self, method: str, path: str, sent: httpx.Headers, fields: dict[str, str] | None
    ) -> httpx.Response:
        seen = {"X-Forwarded-For": self._address, "X-Request-Id": "r1", SECRET_HEADER: SECRET}
        asked = {"X-Forwarded-Method": method, "X-Forwarded-Uri": path, "X-Forwarded-Host": HOST}
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8003", trust_env=False) as client:
            answer = await client.get(CHECK, headers={**sent, **seen, **asked})
            if answer.status_code != 204:
                return answer
            known = {name: answer.headers[name] for name in (NAME_HEADER, ROLE_HEADER) if name in answer.headers}
            kept = {name: value for name, value in sent.items() if name != "origin" and not name.startswith("sec-")}
            outer = {"X-Forwarded-Host": HOST}
            return await client.request(method, path, headers={**kept, **seen, **outer, **known}, data=fields)


def open_browser_on(settings: StackSettings, address: str = "192.0.2.7") -> Browser:
    """A browser that has signed in nowhere, on a front page of its own."""
    return Browser(application(services_with(settings)), address)


def sign_in(browser: Browser, name: str, password: str) -> httpx.Response:
    """Fill in the form as a person does."""
    form = browser.get("/sign-in?next=/live")
    fields = dict.fromkeys(("form", "next"), "")
    for field in fields:
        fields[field] = form.text.partition(f'name="{field}" value="')[2].partition('"')[0]
    return browser.request("POST", "/sign-in", {"Origin": ORIGIN}, {**fields, "name": name, "password": password})


def take_session(browser: Browser, database: Database, name: str) -> None:
    """Have a session without signing in, which takes a slow hash."""
    from tests.infra.accounts.populations import add_session

    browser.cookies["__Host-studio-session"] = add_session(database, name)
