"""The front page in this process, so that a test can change its environment."""

import asyncio

import httpx

from infra.accounts.visitors import NAME_HEADER, ROLE_HEADER, SECRET_HEADER, Visitor
from infra.front_page.access import token
from infra.front_page.application import Services, application
from infra.stack_settings import USER
from tests.stack_environment import CLOSED

PASSWORD = "secret"
SECRET = "that of the front door"
NOBODY = f"127.0.0.1:{CLOSED}"


def ask(path: str, method: str = "GET", visitor: Visitor | None = None) -> httpx.Response:
    """What the page answers htmx; it finds the services by the environment, and Triton nowhere.

    It is asked by the owner of the machine, or by a visitor through the front door.
    """
    services = Services(
        triton_url=NOBODY,
        triton_key="",
        password=PASSWORD,
        store_url=f"http://{NOBODY}",
        front_door_secret=SECRET,
    )
    app = application(services)
    headers = {"HX-Request": "true", "X-Studio-Token": token(PASSWORD)}
    if visitor:
        headers |= {SECRET_HEADER: SECRET, NAME_HEADER: visitor.name, ROLE_HEADER: str(visitor.role)}

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            auth=(USER, PASSWORD),
            headers=headers,
        ) as client:
            return await client.request(method, path)

    return asyncio.run(answer())
