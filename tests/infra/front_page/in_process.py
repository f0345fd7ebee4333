"""The front page in this process, so that a test can change its environment."""

import asyncio

import httpx

from infra.front_page.access import token
from infra.front_page.application import Services, application
from infra.stack_settings import USER
from tests.stack_environment import CLOSED

PASSWORD = "secret"
NOBODY = f"127.0.0.1:{CLOSED}"


def ask(path: str, method: str = "GET") -> httpx.Response:
    """What the page answers htmx; it finds the services by the environment, and Triton nowhere."""
    app = application(Services(triton_url=NOBODY, triton_key="", password=PASSWORD, store_url=f"http://{NOBODY}"))

    async def answer() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            auth=(USER, PASSWORD),
            headers={"HX-Request": "true", "X-Studio-Token": token(PASSWORD)},
        ) as client:
            return await client.request(method, path)

    return asyncio.run(answer())
