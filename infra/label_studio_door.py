"""Label Studio's server behind our door: `python -m infra.label_studio_door`, by the Python of .venv-review.

It is not Label Studio's own start, which serves with Django's server for development, to every name, and prints the
token. Packages of Label Studio are called `core`, `tasks` and `users`: of ours, nothing may be imported here that
imports `tasks`. `infra/services.py` says all the rest in variables that Label Studio reads itself.
"""

import importlib
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from infra.door import Door, refusal_of

# They reach other servers or files of this machine, or tell somebody outside what is clicked here.
UNUSED = re.compile(r"/(api/(storages|ml|model-provider-connections)|admin|django-rq|heidi-tips|__lsa)(/|$)")
_LOOKED_AT = re.compile(r"/api/(storages|ml)(/|$)")  # by its own pages, which list none


def for_an_unused_part(connection: HTTPConnection) -> JSONResponse | None:
    """Refuse the parts that nothing here uses and that reach further than its own data."""
    path = re.sub("/+", "/", connection.scope["path"])
    is_read = connection.scope.get("method") in {"GET", "HEAD"} and _LOOKED_AT.match(path)
    if is_read or not UNUSED.match(path):
        return None
    return refusal_of(f"expected projects, tasks or annotations, found {path}: it is closed here")


def application(user: str, password: str, token: str) -> Door:
    """Return Label Studio's application behind our door, with one user who has this password and this token."""
    spec = find_spec("label_studio")
    if spec is None or spec.origin is None:
        sys.exit("expected Label Studio in the environment of this Python, found none: run `make up REVIEW=1`")
    sys.path.insert(0, str(Path(spec.origin).parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "label_studio.core.settings.label_studio"
    app: Any = _module("django.core.asgi").get_asgi_application()
    _module("django.core.management").call_command("migrate", verbosity=0)
    ensure_user(user, password, token)
    return Door(app, for_an_unused_part)


def ensure_user(email: str, password: str, token: str) -> None:
    """Make the user, or give it the password and the token of this state folder."""
    users = _module("users.models").User.objects
    organizations = _module("organizations.models").Organization
    user = users.filter(email=email).first() or users.create_user(email=email, password=password)
    organization = organizations.objects.first() or organizations.create_organization(
        created_by=user, title="YOLO Studio", legacy_api_tokens_enabled=True
    )
    organization.add_user(user)
    user.active_organization = organization
    if not user.check_password(password):
        user.set_password(password)
    user.save()
    tokens = _module("rest_framework.authtoken.models").Token.objects
    tokens.filter(user=user).delete()
    tokens.create(user=user, key=token)


def _module(name: str) -> Any:  # noqa: ANN401 - no types of it are known here
    return importlib.import_module(name)


def main() -> None:
    """Serve until the process is ended."""
    user, password, token = (os.environ.pop(f"STUDIO_REVIEW_{name}") for name in ("USER", "PASSWORD", "TOKEN"))
    uvicorn.run(
        application(user, password, token),
        host=os.environ["STUDIO_BIND"],
        port=int(os.environ["STUDIO_LABEL_STUDIO_PORT"]),
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
