"""MLflow's bin: runs and models that somebody has deleted, listed and removed for good over HTTP.

`mlflow gc` needs the address of MLflow's database, which no flow run has. So MLflow's server does it for those who have
its password: it calls what `mlflow gc` calls, one entry at a time, for a caller that knows which of them still matter.
"""

import base64
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.door import refusal_of

PATH = "/studio/deleted"
_SCHEME = "mlflow-artifacts:/"


class Bin:
    """An ASGI application in front of MLflow's, which answers `PATH` itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._own = Starlette(
            routes=[
                Route(PATH, _list_deleted, methods=["GET"]),
                Route(f"{PATH}/{{kind}}/{{identity}}", _remove, methods=["DELETE"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the bin, pass anything else on."""
        is_own = scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PATH}/")
        await (self._own if is_own else self._app)(scope, receive, send)


def _list_deleted(request: Request) -> JSONResponse:
    """Every deleted run and model: kind, id, when it was deleted in ms since 1970, and where its files are."""
    if not _is_admin(request):
        return _stranger()
    store = _store()
    from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun

    with store.ManagedSessionMaker() as session:
        runs = session.query(SqlRun).filter(SqlRun.lifecycle_stage == "deleted").all()
        models = session.query(SqlLoggedModel).filter(SqlLoggedModel.lifecycle_stage == "deleted").all()
        found = [
            *(_entry("run", run.run_uuid, run.deleted_time or run.start_time, run.artifact_uri) for run in runs),
            *(
                _entry("model", model.model_id, model.last_updated_timestamp_ms, model.artifact_location)
                for model in models
            ),
        ]
    return JSONResponse(found)


def _entry(kind: str, identity: str, deleted_ms: int | None, place: str) -> dict[str, object]:
    return {"kind": kind, "id": identity, "deleted_ms": deleted_ms or 0, "files": place.removeprefix(_SCHEME)}


def _remove(request: Request) -> JSONResponse:
    """Remove a deleted run or model: its files first, so that one whose files are left is still found."""
    if not _is_admin(request):
        return _stranger()
    from mlflow.exceptions import MlflowException

    kind, identity = request.path_params["kind"], request.path_params["identity"]
    try:
        place = _deleted_place(kind, identity)
    except MlflowException:
        return JSONResponse({"removed": False})
    if place is None:
        return refusal_of(f"expected a deleted run or model, found {kind} {identity}: delete it in MLflow first", 409)
    if identity in place.removeprefix(_SCHEME).split("/"):  # what is not its own folder stays
        _files().delete_artifacts(place.removeprefix(_SCHEME))
    if kind == "run":
        _store()._hard_delete_run(identity)  # noqa: SLF001 - what `mlflow gc` calls
    else:
        _store()._hard_delete_logged_model(identity)  # noqa: SLF001
    return JSONResponse({"removed": True})


def _deleted_place(kind: str, identity: str) -> str | None:
    """Where the files are; None if it is not deleted, or of no kind that we know. MlflowException: there is none."""
    if kind == "run":
        run = _store().get_run(identity)
        return str(run.info.artifact_uri) if run.info.lifecycle_stage == "deleted" else None
    if kind == "model" and identity in _store()._get_deleted_logged_models():  # noqa: SLF001
        return str(_store().get_logged_model(identity, allow_deleted=True).artifact_location)
    return None


def _store() -> Any:  # noqa: ANN401 - MLflow's stores have no common type
    from mlflow.server import handlers

    return handlers._get_tracking_store()  # noqa: SLF001


def _files() -> Any:  # noqa: ANN401
    from mlflow.server import handlers

    served: Any = handlers
    return served._get_artifact_repo_mlflow_artifacts()  # noqa: SLF001


def _is_admin(request: Request) -> bool:
    """Whether the password is right; the door lets nobody in without one."""
    from mlflow.server import auth

    encoded = request.headers.get("authorization", "").partition(" ")[2]
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return bool(auth.store.authenticate_user(user, password)) and bool(auth.store.get_user(user).is_admin)


def _stranger() -> JSONResponse:
    return refusal_of("expected the password of an administrator of MLflow, found another", 401)
