"""The front page, "the studio": archives, models, runs and predictions on one page, and the page of live predictions.

It keeps no state. It asks S3, MLflow, Prefect and Triton, and whatever it does is a flow run.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
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
    health,
    lineage,
    live,
    metrics,
    models,
    predictions,
    questions,
    reviews,
    runs,
    s3_events,
    stored_files,
    uploads,
)
from infra.front_page.access import password_rule, token_rule
from infra.front_page.pages import FOLDER, content_policy, show_http_error, show_studio_error
from infra.metrics.live_source import LiveSource
from tasks.errors import StudioError


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the page is told: Triton's address (host:port) and load key, its own password, and the store's address.

    Senders of event notifications show `s3_events_secret`, scrapers `metrics_token`; if it is empty, there are none.
    """

    triton_url: str
    triton_key: str
    password: str
    store_url: str
    s3_events_secret: str = ""
    metrics_token: str = ""


def application(services: Services) -> Starlette:
    """Return the front page; other services are found by the names of the environment."""

    @contextlib.asynccontextmanager
    async def with_triton(app: Starlette) -> AsyncIterator[None]:
        async with live.triton_client(services.triton_url) as client:
            live.prepare(app.state, client, services.triton_key)
            yield

    routes = [
        Route("/", to_datasets),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
        *live.ROUTES,
        *metrics.ROUTES,
        *health.ROUTES,
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
    app.state.metrics_token = services.metrics_token
    app.state.live_source = LiveSource()
    app.state.exposition = metrics.exposition(app.state.live_source)
    app.state.content_policy = content_policy(services.store_url)
    return app


async def to_datasets(request: Request) -> Response:  # noqa: ARG001
    """Lead to the first tab."""
    return RedirectResponse("/datasets", 307)
