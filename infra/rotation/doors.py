"""Every door of the stack that a rotated password or key opens, and whether it does."""

import base64
from collections.abc import Callable, Mapping

import boto3
import httpx
import psycopg2
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.command_errors import StackError
from infra.identities import Role, secret_names
from infra.stack_settings import HOST, METRICS_USER, REGION, USER, StackSettings
from infra.triton import KEY_HEADER

_TIMEOUT_S = 10
_OPEN, _SHUT = {200}, {401, 403}
_KNOWN_KEY = {"AccessDenied"}  # which may not do what it is asked with
_UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch"}
Door = Callable[[], bool]


def doors(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, Door]:
    """Return what asks each door of this stack with the values of `secrets`, by name: whether it lets us in.

    A door that is not there, or whose value is not among them, is left out. One raises what its client raises if its
    service does not answer, or answers something else than yes or no.
    """
    return {
        **_web_doors(settings, secrets),
        **store_doors(settings, secrets),
        **_database_doors(settings, secrets),
        **_triton_doors(settings, secrets),
    }


def _web_doors(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, Door]:
    by_password = {"studio": ("front_page", settings.live_port, "/health")}
    if not settings.is_elsewhere("PREFECT_API_URL"):
        by_password["prefect"] = ("prefect", settings.prefect_port, "/api/admin/version")
    if not settings.is_elsewhere("MLFLOW_TRACKING_URI"):
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        by_password["mlflow"] = ("mlflow", settings.mlflow_port, path)
    if settings.metrics:
        by_password["prometheus"] = ("prometheus", settings.prometheus_port, "/-/ready")
        by_password["alertmanager"] = ("alertmanager", settings.alertmanager_port, "/-/ready")
    found = {
        name: _asks("GET", f"http://{HOST}:{port}{path}", {"Authorization": _basic(secrets[secret])})
        for name, (secret, port, path) in by_password.items()
    }
    if settings.runs_label_studio:
        address = f"http://{HOST}:{settings.label_studio_port}/api/current-user/whoami"
        found["label-studio"] = _asks("GET", address, {"Authorization": f"Token {secrets['label_studio_token']}"})
    return found


def store_doors(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, Door]:
    """Return those of the object store, one for each of its roles whose key is among the values."""
    if settings.is_elsewhere("AWS_ENDPOINT_URL"):
        return {}
    names = {role: secret_names(role) for role in Role}
    return {
        f"object store, {role}": opens_store(settings, secrets[key], secrets[secret])
        for role, (key, secret) in names.items()
        if key in secrets
    }


def _database_doors(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, Door]:
    if not settings.runs_postgres:
        return {}
    found = {"postgres": _opens_database(settings, secrets["postgres_user"], secrets["postgres"])}
    if settings.metrics:
        found["postgres, statistics"] = _opens_database(settings, METRICS_USER, secrets["metrics_postgres"])
    return found


def _triton_doors(settings: StackSettings, secrets: Mapping[str, str]) -> dict[str, Door]:
    if settings.is_elsewhere("TRITON_GRPC_URL") or "triton_key" not in secrets:
        return {}
    headers = {KEY_HEADER: secrets["triton_key"]}
    return {
        f"triton, {target.http}": _asks("POST", f"http://{target.http}/v2/repository/index", headers)
        for target in settings.local_tritons
    }


def _basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode()}"


def _asks(method: str, address: str, headers: Mapping[str, str]) -> Door:
    def ask() -> bool:
        status = httpx.request(method, address, headers=headers, timeout=_TIMEOUT_S, trust_env=False).status_code
        if status not in _OPEN | _SHUT:
            expected = ", ".join(map(str, sorted(_OPEN | _SHUT)))
            raise StackError(f"expected {address} to answer with one of {expected}, found {status}: read its log")
        return status in _OPEN

    return ask


def opens_store(settings: StackSettings, key: str, secret: str, *, attempts: int = 3) -> Door:
    """Return what asks the object store of this machine whether it takes a key, as often as `attempts`."""

    def ask() -> bool:
        store = boto3.client(
            "s3",
            endpoint_url=settings.local_environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=REGION,
            config=Config(connect_timeout=3, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": attempts}),
        )
        try:
            store.list_buckets()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _KNOWN_KEY | _UNKNOWN_KEY:
                raise
            return code in _KNOWN_KEY
        return True

    return ask


def _opens_database(settings: StackSettings, user: str, password: str) -> Door:
    def ask() -> bool:
        try:
            psycopg2.connect(
                host=HOST,
                port=settings.postgres_port,
                user=user,
                password=password,
                dbname="postgres",
                connect_timeout=5,
            ).close()
        except psycopg2.OperationalError as error:
            if "authentication failed" in str(error) or "not permitted to log in" in str(error):
                return False
            raise
        return True

    return ask
