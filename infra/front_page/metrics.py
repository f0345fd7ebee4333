"""`GET /metrics`: what goes on, for Prometheus. It shows a token of its own, or the password; nobody else reads it."""

import hmac
import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.door import refusal_of
from infra.front_page.access import given_password
from infra.front_page.runs import FLOWS
from infra.metrics.activity import Activity
from infra.metrics.backup_source import BackupSource
from infra.metrics.certificate_source import CertificateSource
from infra.metrics.exposition import CONTENT_TYPE, Exposition, Source
from infra.metrics.key_source import KeySource
from infra.metrics.live_source import LiveSource
from infra.metrics.machine_source import MachineSource
from infra.metrics.postgres_source import PostgresSource
from infra.metrics.prefect_source import PrefectSource
from infra.metrics.service_sources import StoreSource, TritonSource
from infra.metrics.tracking_source import TrackingSource
from infra.metrics.worker_token_source import WorkerTokenSource
from infra.stack_settings import ROOT, USER, StackSettings
from tasks.settings import Settings

if TYPE_CHECKING:
    from infra.accounts.database import Database

POSTGRES = "STUDIO_METRICS_POSTGRES_URL"


def exposition(live: LiveSource, accounts: "Database | None" = None) -> Exposition:
    """Return the metrics of the page and of the services in the environment; asks none of them yet.

    `accounts` is the database of accounts, if there are any.
    """
    activity, settings = Activity(), StackSettings.load()
    queues = yaml.safe_load((ROOT / "deployments" / "queues.yaml").read_text())
    sources: list[Source] = [
        PrefectSource(FLOWS, list(queues), activity),
        TrackingSource(activity),
        TritonSource(),
        StoreSource(),
        live,
        MachineSource(_places(settings)),
        BackupSource(settings),
        KeySource(settings),
    ]
    if database := os.environ.get(POSTGRES):
        sources.append(PostgresSource(database))
    if "STUDIO_FRONT_DOOR_SECRET" in os.environ:
        sources.append(CertificateSource(StackSettings.load()))
    if accounts:
        sources.append(WorkerTokenSource(accounts))
    return Exposition(sources)


def _places(settings: StackSettings) -> dict[str, Path]:
    places = {"state": settings.state_dir, "scratch": Settings().studio_scratch_dir}
    return places if settings.is_elsewhere("AWS_ENDPOINT_URL") else places | {"store": settings.state_dir / "s3"}


def show_metrics(request: Request) -> Response:
    """Answer with all metrics in Prometheus' text format."""
    state = request.app.state
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = token.encode("latin-1") if scheme.lower() == "bearer" else b""
    is_scraper = bool(state.metrics_token) and hmac.compare_digest(given, state.metrics_token.encode())
    if not is_scraper and not hmac.compare_digest(given_password(request) or b"", state.password.encode()):
        message = (
            f"expected the token of metrics as a bearer token, or the password of user {USER}, found another or none"
        )
        return refusal_of(message, 401, {"WWW-Authenticate": 'Basic realm="YOLO Studio", charset="UTF-8"'})
    return Response(state.exposition.to_text(), headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE)


ROUTES = [Route("/metrics", show_metrics)]
