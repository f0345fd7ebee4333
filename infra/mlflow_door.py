"""MLflow's server with its password behind our door: `python -m infra.mlflow_door`, in the place of `mlflow server`.

MLflow lets everybody who may write name any place as the home of artifacts: a folder of this machine, another bucket,
another server. Here it knows one place, `mlflow-artifacts:`, which is its own bucket.
"""

import base64
import configparser
import io
import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.accounts.mlflow_requests import changed_model, checks_body, permitted, require_owner
from infra.accounts.permissions import Part
from infra.accounts.visitors import Visitor
from infra.door import Door, refusal_of
from infra.front_page_questions import FrontPage, check_address
from infra.mlflow_bin import Bin
from infra.mlflow_refusals import noted_refusals, refusal
from infra.mlflow_searches import bound_searches
from infra.request_bodies import pass_on_changed
from infra.request_log import RequestLog
from infra.rotation.passwords import RotatedPassword
from infra.stack_settings import StackSettings, write_private
from infra.storable_text import StorableText, in_the_address
from infra.visitor_door import VisitorDoor, visitor_behind
from infra.web_server import serve
from tasks import log_lines
from tasks.errors import safe_repr

OPEN_PATH = "/health"
# They run programs on this machine, call addresses that the client names, or need the job runner, which is off.
UNUSED = re.compile(
    r"/gateway(/|$)|/(ajax-)?api/[\d.]+/mlflow/"
    r"(assistant|demo|gateway|gateway-proxy|genai|issues/invoke|mcp-servers|prompt-optimization"
    r"|runs/create-promptlab-run|scorer|webhooks)(/|$)"
)
# Bodies of these go into the bucket as they are (or are no JSON), and may be of any size.
FILES = re.compile(r"/(ajax-)?api/[\d.]+/mlflow(-artifacts/artifacts/|/upload-artifact$)|/v1/traces$")
_OUR_PLACE = re.compile(r"(mlflow-artifacts|models|runs):/(?!/)")
_DELETED = "REDACTED-SOURCE-PATH"  # what MLflow writes over the source of a deleted version
_PROMPT = "prompt-template"  # the source that MLflow writes for a prompt, which has no files
_REMEMBER_S = 600  # how long a right password is right without computing its slow hash again


def without_password(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse a request without user and password, but for the health check; MLflow checks the password itself.

    A header without user and password, or with a NUL, would be an error inside MLflow.
    """
    given = connection.headers.getlist("authorization")
    if connection.scope["path"] == OPEN_PATH or (len(given) == 1 and _names_a_user(given[0])):
        return None
    message = "expected MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of .studio/env, found no password"
    return refusal_of(message, 401, {"WWW-Authenticate": 'Basic realm="mlflow"'})


def _names_a_user(authorization: str) -> bool:
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return False
    return scheme.lower() == "basic" and ":" in decoded and "\0" not in decoded


def for_an_unused_part(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse the parts of MLflow that nothing here uses and that reach further than its own data."""
    path = connection.scope["path"]
    return refusal_of(f"expected tracking or registry, found {path}: it is closed here") if UNUSED.match(path) else None


def is_our_place(place: str | None) -> bool:
    """Return whether artifacts may lie at `place`, or a version of a model come from there."""
    if not place or place == _PROMPT:
        return True
    return _OUR_PLACE.match(place) is not None and ".." not in unquote(place)


def keep_artifacts_at_home(destination: str) -> None:
    """Have MLflow refuse each other place, when it is written down and when it is used."""
    _write_down_at_home()
    _use_at_home(destination)


def _refusal(place: str, expected: str = "mlflow-artifacts:/, runs:/ or models:/") -> Exception:
    return refusal(expected, safe_repr(place), "leave it out, and log files to a run")


def _write_down_at_home() -> None:
    from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
    from sqlalchemy import event

    def written(entry: object, place: str | None, *__: object) -> None:
        is_deleted = getattr(entry, "current_stage", None) == STAGE_DELETED_INTERNAL and place == _DELETED
        if not is_deleted and not is_our_place(place):
            raise _refusal(str(place))

    def given_to_an_experiment(experiment: Any, place: str | None, *__: object) -> None:  # noqa: ANN401
        # Its own place alone: in that of others a run would write among their files.
        if place and place != f"mlflow-artifacts:/{experiment.experiment_id}":
            raise _refusal(place, "the place that MLflow gives an experiment")

    columns: list[Any] = [SqlRun.artifact_uri, SqlLoggedModel.artifact_location]
    for column in [*columns, SqlModelVersion.source, SqlModelVersion.storage_location]:
        event.listen(column, "set", written)
    event.listen(SqlExperiment.artifact_location, "set", given_to_an_experiment)


def _use_at_home(destination: str) -> None:
    from mlflow.store.artifact import artifact_repository_registry as repositories

    def used(place: str, **_: object) -> object:
        raise _refusal(place)

    registry: Any = repositories._artifact_repository_registry  # noqa: SLF001 - it has no other way to leave one out
    scheme = destination.partition(":")[0]
    at_home = registry.get_registered_artifact_repositories()[scheme]

    def used_at_home(place: str, **options: object) -> object:
        if not f"{place}/".startswith(f"{destination}/"):
            raise _refusal(place)
        return at_home(place, **options)

    for other in set(registry.get_registered_artifact_repositories()) - {"mlflow-artifacts", "models", "runs"}:
        registry.register(other, used)
    registry.register(scheme, used_at_home)


def write_configuration(settings: StackSettings) -> None:
    """Write the file that names the database of MLflow's users, which is that of its runs."""
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": os.environ["MLFLOW_BACKEND_STORE_URI"].replace("%", "%%"),
        "auth_cache_ttl_seconds": str(_REMEMBER_S),
    }
    config.write(text := io.StringIO())
    path = settings.state_dir / "mlflow-users.ini"
    write_private(path, text.getvalue())
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(path)


def _tags_of_model(name: str) -> Mapping[str, str]:
    """The tags of a registered model; none if there is no such model, and so it has no owner."""
    from mlflow.exceptions import MlflowException
    from mlflow.server import handlers

    try:
        store: Any = handlers._get_model_registry_store()  # noqa: SLF001
        tags: Mapping[str, str] = store.get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        return {}
    return tags


class Visitors:
    """An ASGI application in front of MLflow's, which looks at what a visitor writes.

    Args:
        app: MLflow's.
        front_page: Whose audit log has what is refused.
    """

    def __init__(self, app: ASGIApp, front_page: FrontPage) -> None:
        self._app = app
        self._front_page = front_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on; a run that a visitor logs has their name."""
        visitor = visitor_behind(scope)
        if visitor is None:
            await self._app(scope, receive, send)
            return
        with noted_refusals() as refused:
            await self._pass_on(scope, receive, send, visitor)
        for reason in refused:
            await self._front_page.keep_refusal(scope, visitor, reason)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, visitor: Visitor) -> None:
        if not checks_body(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return

        async def change(body: Any) -> Any:  # noqa: ANN401 - JSON
            sent = permitted(scope["path"], body, visitor)
            if (model := changed_model(scope["path"], sent)) is not None:
                require_owner(model, await run_in_threadpool(_tags_of_model, model), visitor)
            return sent

        keep = partial(self._front_page.keep_refusal, scope, visitor)
        await pass_on_changed(self._app, scope, receive, send, change, keep)


def application() -> ASGIApp:
    """Return MLflow's application behind our door, with the password of the environment."""
    from mlflow.server import auth, handlers

    keep_artifacts_at_home(os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"])
    bound_searches()
    handlers.initialize_backend_stores()
    app: Any = auth.create_app()
    user, password = (os.environ[f"MLFLOW_AUTH_ADMIN_{name}"] for name in ("USERNAME", "PASSWORD"))
    if not auth.store.authenticate_user(user, password):  # the database has seen another state folder
        auth.store.update_user(user, password=password, is_admin=True)
    storable = StorableText(Bin(app), is_file=FILES.match)
    settings = StackSettings.load()
    known = RotatedPassword(storable, settings=settings, name="mlflow", password=password)
    rules = (in_the_address, without_password, for_an_unused_part)
    secret = os.environ.get("STUDIO_FRONT_DOOR_SECRET")
    if not secret:
        return Door(known, *rules)
    front_page = FrontPage(check_address(settings), secret=secret, prefix="/mlflow")
    behind = Door(Visitors(known, front_page), *rules)
    return VisitorDoor(behind, part=Part.MLFLOW, credential=f"{user}:{password}", secret=secret)


def main() -> None:
    """Serve until the process is ended."""
    log_lines.configure("mlflow")
    settings = StackSettings.load()
    write_configuration(settings)
    serve(
        RequestLog(application()),
        behind_front_door="STUDIO_FRONT_DOOR_SECRET" in os.environ,
        host=settings.bind,
        port=settings.mlflow_port,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
