"""Every route of Prefect's and of MLflow's application: `python -m tests.infra.accounts.routes_of prefect|mlflow`.

It prints a line for each: method and path; of MLflow's APIs, whose rules are the same, `/api` stands for each. To
class the routes of a new release, look at the difference to the files in
`routes/`, and write the role of each new line in front of it.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.accounts.permissions import SOCKET

_OF_AN_API = re.compile(r"^/(ajax-)?api/[\d.]+")
IMPLIED = {"HEAD", "OPTIONS"}  # HEAD is read as GET is, and OPTIONS is for admins


def prefect_routes() -> set[str]:
    from prefect.server.api.server import create_app

    app: Any = create_app(final=True)
    return {f"{method} /api{path}" for method, path in _routes(app.api_app.routes)}


def mlflow_routes(folder: Path) -> set[str]:
    """Those behind its password; `folder` takes its databases."""
    users = folder / "users.ini"
    users.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder}/users.db\n")
    os.environ |= {
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/runs.db",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_USERNAME": "studio",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "twelve letters and more",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "none",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    from mlflow.server import auth

    app: Any = auth.create_app()
    return {f"{method} {_OF_AN_API.sub('/api', path)}" for method, path in _routes(app.routes)}


def _routes(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "effective_candidates"):  # FastAPI's router in a router
            for candidate in route.effective_candidates():
                inner = candidate.starlette_route or candidate.original_route
                path = candidate.path or inner.path
                yield from ((method, path) for method in _methods(candidate, inner))
        elif (flask := getattr(getattr(route, "app", None), "app", None)) is not None:
            for rule in flask.url_map.iter_rules():
                path = rule.rule.replace("<", "{").replace(">", "}")
                yield from ((method, path) for method in sorted(rule.methods - IMPLIED))
        elif hasattr(route, "app") and not hasattr(route, "methods"):
            yield "GET", f"{route.path}/{{path}}"  # of files
        else:
            yield from ((method, route.path) for method in _methods(route, route))


def _methods(*routes: Any) -> list[str]:
    methods = next((found for route in routes if (found := getattr(route, "methods", None))), None)
    return sorted(set(methods) - IMPLIED) if methods else [SOCKET]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        found = prefect_routes() if sys.argv[1] == "prefect" else mlflow_routes(Path(temporary))
        print("\n".join(sorted(found)))
