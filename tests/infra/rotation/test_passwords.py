"""Who comes in with which password while keys are rotated."""

import asyncio
import base64
import json
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from infra.rotation import state
from infra.rotation.passwords import RotatedPassword
from infra.rotation.state import Rotation
from infra.stack_settings import USER, StackSettings

OWN, FORMER, NEW = "own", "former", "new"
ROTATION = Rotation(former={"prefect": FORMER, "mlflow": "of-mlflow"}, new={"prefect": NEW, "mlflow": "new-of-mlflow"})


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """The password that the application gets."""
    given = Request(scope).headers.get("authorization", "none")
    await PlainTextResponse(base64.b64decode(given.removeprefix("Basic ")).decode() if " " in given else given)(
        scope, receive, send
    )


def got(folder: Path, *given: str, user: str = USER) -> str:
    """What the application gets from who shows these passwords."""
    app = RotatedPassword(show, settings=StackSettings(state_dir=folder), name="prefect", password=OWN)
    headers = [("Authorization", f"Basic {base64.b64encode(f'{user}:{each}'.encode()).decode()}") for each in given]

    async def ask() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return (await client.get("/", headers=headers)).text

    return asyncio.run(ask())


@pytest.mark.parametrize("given", [OWN, FORMER, NEW])
def test_the_former_and_the_new_password_are_as_good_as_its_own(tmp_path: Path, given: str) -> None:
    state.write(tmp_path, ROTATION)
    assert got(tmp_path, given) == f"{USER}:{OWN}"


@pytest.mark.parametrize("given", ["wrong", "", "of-mlflow", "new-of-mlflow"])
def test_another_password_stays_what_it_is(tmp_path: Path, given: str) -> None:
    state.write(tmp_path, ROTATION)
    assert got(tmp_path, given) == f"{USER}:{given}"
    assert got(tmp_path) == "none"
    assert got(tmp_path, NEW, user="ada") == f"ada:{NEW}"


@pytest.mark.parametrize("rotation", [None, ROTATION.model_copy(update={"is_ending": True})])
def test_without_a_rotation_or_at_its_end_there_is_one_password(tmp_path: Path, rotation: Rotation | None) -> None:
    if rotation:
        state.write(tmp_path, rotation)
    assert got(tmp_path, OWN) == f"{USER}:{OWN}"
    for given in (FORMER, NEW):
        assert got(tmp_path, given) == f"{USER}:{given}"


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_text("{}")
    assert got(tmp_path, FORMER) == f"{USER}:{FORMER}"


def socket_got(folder: Path, message: str) -> str:
    """What Prefect reads of a socket in which a client says this."""
    pending: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": message}]
    read: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        read.extend([await receive(), await receive()])

    async def receive() -> Message:
        return pending.pop(0)

    async def send(message: Message) -> None:
        """It sends nothing."""

    app = RotatedPassword(application, settings=StackSettings(state_dir=folder), name="prefect", password=OWN)
    asyncio.run(app({"type": "websocket", "headers": []}, receive, send))
    return str(read[1]["text"])


def test_in_a_socket_the_password_is_in_a_message(tmp_path: Path) -> None:
    said = {"type": "auth", "token": f"{USER}:{FORMER}"}
    assert json.loads(socket_got(tmp_path, json.dumps(said))) == said
    state.write(tmp_path, ROTATION)
    assert json.loads(socket_got(tmp_path, json.dumps(said))) == {"type": "auth", "token": f"{USER}:{OWN}"}
    for other in (
        '{"type": "auth", "token": "studio:wrong"}',
        '{"type": "auth", "token": 1}',
        "no JSON",
        '{"token": 1}',
    ):
        assert socket_got(tmp_path, other) == other
