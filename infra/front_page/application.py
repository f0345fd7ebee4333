"""The front page, "the studio": archives, models, runs and predictions on one page, and the page of live predictions.

It keeps no state. It asks S3, MLflow, Prefect and Triton, and whatever it does is a flow run.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    logs,
    metrics,
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
from infra.front_page.searches import Searches
from infra.front_page.starters import StartedByVisitor
from infra.metrics.live_source import LiveSource
from infra.rotation.passwords import RotatedPassword
from infra.rotation.state import is_under_way
from infra.stack_settings import StackSettings
from tasks.errors import StudioError

if TYPE_CHECKING:
    from infra.accounts.oidc_client import Client
    from infra.front_page.people import People


@dataclass(frozen=True, kw_only=True)
class Services:
    """What the page is told: Triton's address (host:port) and load key, its own password, and the store's address.

    Senders of event notifications show `s3_events_secret`, scrapers `metrics_token`, and the front door
    `front_door_secret`; if one is empty, there are none. Nor are there accounts without the address of their database,
    `accounts_url`; `oidc` is how a provider that signs people in knows this page, and `take_store_key` takes the key of
    the object store from an account. Where there may be several Tritons, `list_tritons` returns their addresses. The
    settings of the stack, `stack`, say whether its keys are rotated now.
    """

    triton_url: str
    triton_key: str
    password: str
    store_url: str
    accounts_url: str = ""
    audit_days: int = 365
    oidc: "Client | None" = None
    take_store_key: Callable[[str], object] = lambda _: None
    s3_events_secret: str = ""
    list_tritons: Callable[[], Sequence[str]] | None = None
    front_door_secret: str = ""
    metrics_token: str = ""
    stack: StackSettings | None = None


def application(services: Services) -> Starlette:
    """Return the front page; other services are found by the names of the environment."""
    people = _open_people(services)
    errors: Mapping[Any, Any] = {StudioError: show_studio_error, HTTPException: show_http_error}
    app = Starlette(
        routes=[*ROUTES, *(people.routes if people else ())],
        middleware=_middleware(services, people),
        exception_handlers={**errors, **(people.errors if people else {})},
        lifespan=_lifespan(services, people),
    )
    app.state.password = services.password
    app.state.front_door_secret = services.front_door_secret
    app.state.people = people
    app.state.s3_events_secret = services.s3_events_secret
    app.state.metrics_token = services.metrics_token
    app.state.searches = Searches()
    app.state.live_source = LiveSource()
    app.state.exposition = metrics.exposition(app.state.live_source, people.database if people else None)
    app.state.content_policy = content_policy(services.store_url)
    return app


def _middleware(services: Services, people: "People | None") -> list[Middleware]:
    """Who may come in, from the outside to the inside."""
    found = people.middleware(services.front_door_secret) if people else []
    if services.stack:
        found.append(
            Middleware(RotatedPassword, settings=services.stack, name="front_page", password=services.password)
        )
    rules = (rule(services.password, services.front_door_secret) for rule in (password_rule, token_rule))
    return [*found, Middleware(Door, *rules), Middleware(StartedByVisitor, services.front_door_secret)]


def _lifespan(
    services: Services, people: "People | None"
) -> Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]:
    """What runs beside the pages: connections to Triton, and the tidying of accounts."""

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        list_tritons, key = services.list_tritons, services.triton_key
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(live.triton_client())
            if list_tritons:
                await stack.enter_async_context(server_watch.watching(client, list_tritons, key))
            live.prepare(app.state, client, services.triton_url, list_tritons, key)
            app.state.triton_restarts = triton_restarts
            if people:
                await stack.enter_async_context(people.tidied(services.audit_days))
            yield

    def triton_restarts() -> bool:
        return services.stack is not None and is_under_way(services.stack.state_dir)

    return running


def _open_people(services: Services) -> "People | None":
    """What the pages of accounts share; without accounts nothing of it is imported."""
    if not services.accounts_url:
        return None
    from infra.front_page.people import People

    return People(services.accounts_url, services.oidc, services.take_store_key)


async def to_datasets(request: Request) -> Response:  # noqa: ARG001
    """Lead to the first tab."""
    return RedirectResponse("/datasets", 307)


ROUTES = [
    Route("/", to_datasets),
    Mount("/static", StaticFiles(directory=FOLDER / "static")),
    *live.ROUTES,
    *metrics.ROUTES,
    *health.ROUTES,
    *actions.ROUTES,
    *datasets.ROUTES,
    *lineage.ROUTES,
    *logs.ROUTES,
    *models.ROUTES,
    *questions.ROUTES,
    *reviews.ROUTES,
    *runs.ROUTES,
    *predictions.ROUTES,
    *stored_files.ROUTES,
    *s3_events.ROUTES,
    *uploads.ROUTES,
]
