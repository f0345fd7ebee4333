"""The page of live predictions, and what programs ask for the same: an image for a served model, and their list.

Triton lets no page read its answers (it has no CORS), so this forwards two requests to it and nothing else. Names and
numbers from a request travel as request parameters of Triton's protocol and become no part of an address. Of several
Tritons it asks the first that is well, beginning with another one each time.
"""

import asyncio
import json
import re
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.front_page import picture_room
from infra.front_page.bodies import content_length, read_body
from infra.front_page.pages import render
from infra.front_page.picture_room import PictureRoom
from infra.triton import KEY_HEADER, PREDICT_HEADERS
from tasks.log_lines import current_fields
from tasks.serving.triton_config import config_versions, read_champion_version, read_served_model

MAX_BYTES = 32 * 2**20
TIMEOUT_S = 60.0  # for Triton to answer
PROBE_TIMEOUT_S = 2.0
AWAY_S = 10.0  # for which one that did not answer is asked last
RESTART_S = 60.0  # for which a Triton that gets its new key is waited for
_AGAIN_S = 0.2
SMALL_BYTES = 2**20  # of a picture as cameras and browsers send it
SMALL_AT_ONCE = 256  # pictures in memory of at most SMALL_BYTES, by their Content-Length; others wait unread
LARGE_AT_ONCE = 16  # of MAX_BYTES each
ASKED_AT_ONCE = 16  # of Triton
_ANOTHER_MAY_KNOW = {404, 503}  # the model is not there yet, or is on its way out
_Question = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_QUERY = tuple(name for name in PREDICT_HEADERS if name != "model")  # which the path says


def triton_client() -> httpx.AsyncClient:
    """Return a client of Tritons."""
    timeout = httpx.Timeout(TIMEOUT_S, connect=5)
    # Triton, when it is stopped, waits until nobody is connected any more.
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)


def prepare(
    state: State, triton: httpx.AsyncClient, url: str, list_tritons: Callable[[], Sequence[str]] | None, key: str
) -> None:
    """Give the routes what they share: the client, the Tritons, the key of their index, and the room for pictures.

    There is one Triton at `url` (host:port), or those that `list_tritons` returns.
    """
    state.triton = triton
    state.triton_url = url
    state.list_tritons = list_tritons
    state.turns = count()
    state.away_until = dict[str, float]()
    state.key = key
    state.small, state.large = PictureRoom(SMALL_AT_ONCE), PictureRoom(LARGE_AT_ONCE)
    state.asked = asyncio.Semaphore(ASKED_AT_ONCE)


async def _ask_any(request: Request, ask: _Question) -> httpx.Response:
    """Return the answer of the first Triton that is well, else what another has said.

    While keys are rotated, a Triton that is away comes back with its new key: it is waited for.

    Raises:
        httpx.HTTPError: None answers.
    """
    until = time.monotonic() + RESTART_S
    while True:
        is_patient = request.app.state.triton_restarts() and time.monotonic() < until
        try:
            answer = await _ask_any_now(request, ask)
            if not (answer.is_server_error and is_patient):
                return answer
        except httpx.HTTPError:
            if not is_patient:
                raise
        await asyncio.sleep(_AGAIN_S)


async def _ask_any_now(request: Request, ask: _Question) -> httpx.Response:
    state = request.app.state
    tritons = await _list_tritons(state)
    first = next(state.turns) % len(tritons)
    answer: httpx.Response | None = None
    error: httpx.HTTPError | None = None
    now = time.monotonic()
    for address in sorted([*tritons[first:], *tritons[:first]], key=lambda each: state.away_until.get(each, 0.0) > now):
        try:
            if len(tritons) > 1:  # one that is stopped takes connections and never answers
                await state.triton.get(f"http://{address}/v2/health/live", timeout=PROBE_TIMEOUT_S)
            answer = await ask(state.triton, f"http://{address}")
        except httpx.HTTPError as raised:
            error = raised
            state.away_until[address] = time.monotonic() + AWAY_S
            continue
        if answer.status_code not in _ANOTHER_MAY_KNOW:
            return answer
    if answer is None:
        raise error or httpx.ConnectError("there is no Triton")
    return answer


async def _list_tritons(state: State) -> Sequence[str]:
    # Several may be the addresses of a name that is looked up.
    return await run_in_threadpool(state.list_tritons) if state.list_tritons else [state.triton_url]


async def show_tab(request: Request) -> Response:
    """Return the page itself."""
    return render(request, "live.html")


async def show_models(request: Request) -> Response:
    """Return the models that `predict` runs, by name.

    Of each `name`, `version`, `versions`, `task`, `image_size`, `classes`, and `thresholds` by class or null.
    """
    try:
        return await _models(request)
    except httpx.HTTPError as error:
        return await _while_triton_is_away(request, error)


async def _models(request: Request) -> Response:
    headers = {KEY_HEADER: request.app.state.key}

    async def ask(triton: httpx.AsyncClient, address: str) -> httpx.Response:
        return await triton.post(f"{address}/v2/repository/index", json={"ready": True}, headers=headers)

    index = await _ask_any(request, ask)
    if index.is_error:
        return _error(f"Triton does not list its models: {_reason(index)}", index.status_code)
    names = sorted({row["name"] for row in index.json() if _NAME.fullmatch(row["name"])})
    triton, address = request.app.state.triton, index.url.join("/")
    configs = [await triton.get(address.join(f"/v2/models/{name}/config")) for name in names]
    described = [_described(config) for config in configs if not config.is_error]
    return JSONResponse([model for model in described if model])


def _described(answer: httpx.Response) -> dict[str, Any] | None:
    """What clients need of a model's config.

    None if it has no version for clients that name none, or deploy-model has not written it: `predict` runs no such
    model.
    """
    try:
        config = answer.json()
        versions = sorted(config_versions(config))
        model = read_served_model(config, read_champion_version(config))
    except ValueError:
        return None
    if model.version not in versions:
        return None
    return {
        "name": model.name,
        "version": model.version,
        "versions": versions,
        "task": model.task,
        "image_size": model.image_size,
        "classes": model.class_names,
        "thresholds": model.thresholds,
    }


async def predict(request: Request) -> Response:
    """Return the JSON of `predict` for the image in the body; query: `version`, `confidence`, `iou`."""
    answer = await _predict(request)
    request.app.state.live_source.count(answer.status_code)
    return answer


async def _predict(request: Request) -> Response:
    state = request.app.state
    unknown = sorted(request.query_params.keys() - set(_QUERY))
    if unknown:
        return _error(f"expected parameters {', '.join(_QUERY)}, found {unknown[0][:80]!r}: leave it out", 400)
    size = content_length(request)
    room: PictureRoom = state.small if size is not None and size <= SMALL_BYTES else state.large
    async with room.place():
        picture = await _read_picture(request, room.reading(MAX_BYTES if size is None else size))
        if isinstance(picture, Response):
            return picture
        async with state.asked:
            try:
                return await _infer(request, picture)
            except httpx.HTTPError as error:
                return await _while_triton_is_away(request, error)


async def _read_picture(request: Request, in_time: AbstractAsyncContextManager[None]) -> bytes | Response:
    """The picture in the body, or the answer to one that does not come, or is too large."""
    try:
        async with in_time:
            body = await read_body(request, MAX_BYTES)
    except ClientDisconnect:
        return _error("the client went away", 400)
    except TimeoutError:
        within = f"within {picture_room.TIMEOUT_S:g} s, or at {picture_room.LEAST_SPEED >> 20} MiB/s while others wait"
        return _error(f"expected a picture {within}, found a part of one: send it again", 408)
    if body is None:
        return _error(f"expected at most {MAX_BYTES} bytes, found more: make the picture smaller", 413)
    return body


async def _infer(request: Request, body: bytes) -> Response:
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(body) + 4}}
    call = {
        "id": str(current_fields().get("request_id", "")),  # an error that Triton answers names it
        "parameters": {**request.query_params, "model": request.path_params["model"]},
        "inputs": [image],
        "outputs": [{"name": "json", "parameters": {"binary_data": False}}],
    }
    head = json.dumps(call).encode()

    async def ask(triton: httpx.AsyncClient, address: str) -> httpx.Response:
        return await triton.post(
            f"{address}/v2/models/predict/infer",
            content=head + struct.pack("<I", len(body)) + body,
            headers={"Inference-Header-Content-Length": str(len(head))},
        )

    answer = await _ask_any(request, ask)
    if answer.is_error:
        return _error(_reason(answer), answer.status_code)
    return Response(answer.json()["outputs"][0]["data"][0], media_type="application/json")


async def _while_triton_is_away(request: Request, error: httpx.HTTPError) -> Response:
    addresses = " or ".join(await _list_tritons(request.app.state))
    return _error(f"expected Triton at {addresses}, found no answer ({error!r}): start it with `studio up`", 502)


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)


ROUTES = [
    Route("/live", show_tab),
    Route("/models", show_models),
    Route("/predict/{model}", predict, methods=["POST"]),
]
