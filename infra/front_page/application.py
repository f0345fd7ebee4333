"""The front page, "the studio": archives, models, runs and predictions on one page, and the page of live predictions.

It keeps no state. It asks S3, MLflow, Prefect and Triton, and whatever it does is a flow run.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from infra.door import Door
from infra.front_page import (
    actions,
    datasets,
    lineage,
    live,
    models,
    predictions,
    questions,
    reviews,
    runs,
    s3_events,
    server_watch,
    stored_files,
    uploads,
)
from infra.front_page.access import password_rule, token_rule
from infra.front_page.pages import FOLDER, content_policy, show_http_error, show_studio_error
from tasks.errors import StudioError


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the page is told: Triton's address (host:port) and load key, its own password, and the store's address.

    Senders of event notifications show `s3_events_secret`; if it is empty, there are none. Where there may be several
    Tritons, `list_tritons` returns their addresses.
    """

    triton_url: str
    triton_key: str
    password: str
    store_url: str
    s3_events_secret: str = ""
    list_tritons: Callable[[], Sequence[str]] | None = None


def application(services: Services) -> Starlette:
    """Return the front page; other services are found by the names of the environment."""

    @contextlib.asynccontextmanager
    async def with_triton(app: Starlette) -> AsyncIterator[None]:
        list_tritons, key = services.list_tritons, services.triton_key
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(live.triton_client())
            if list_tritons:
                await stack.enter_async_context(server_watch.watching(client, list_tritons, key))
            live.prepare(app.state, client, services.triton_url, list_tritons, key)
            yield

    routes = [
        Route("/", to_datasets),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
        *live.ROUTES,
        *actions.ROUTES,
        *datasets.ROUTES,
        *lineage.ROUTES,
        *models.ROUTES,
        *questions.ROUTES,
        *reviews.ROUTES,
        *runs.ROUTES,
        *predictions.ROUTES,
        *stored_files.ROUTES,
        *s3_events.ROUTES,
        *uploads.ROUTES,
    ]
    errors: Mapping[Any, Any] = {
        StudioError: show_studio_error,
        HTTPException: show_http_error,
    }
    door = Middleware(Door, password_rule(services.password), token_rule(services.password))
    app = Starlette(routes=routes, middleware=[door], exception_handlers=errors, lifespan=with_triton)
    app.state.password = services.password
    app.state.s3_events_secret = services.s3_events_secret
    app.state.content_policy = content_policy(services.store_url)
    return app


async def to_datasets(request: Request) -> Response:  # noqa: ARG001
    """Lead to the first tab."""
    return RedirectResponse("/datasets", 307)
