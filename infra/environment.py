"""The environment of services and flow runs: what they inherit of the shell, and what they must not."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from infra.identities import Role
from infra.stack_settings import HOST, ROOT, StackSettings
from tasks import log_lines

AWS_MISLEADING = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
# A service gets those of these that it needs; the shell's reach no other.
GUARDED = (
    "AWS_",
    "PREFECT_",
    "MLFLOW_",
    "TRITON_",
    "WEED_",
    "LABEL_STUDIO_",
    "CVAT_",
    "STUDIO_TRITON_KEY",
    "STUDIO_LINKS_",
    "STUDIO_POSTGRES_URL",
    "STUDIO_NOTIFY",
    "STUDIO_PASSWORD",
    "STUDIO_S3_EVENTS_SECRET",
    "STUDIO_LIVE_LOG",
    "STUDIO_ACCOUNTS_URL",
    "STUDIO_ADMIN_PASSWORD",
    "STUDIO_OIDC_",
    "STUDIO_FRONT_DOOR_SECRET",
    "STUDIO_METRICS_",
    "PROMETHEUS_",
    "ALERTMANAGER_",
)
_REVIEW = ("LABEL_STUDIO_", "CVAT_")
LINKS = ("STUDIO_LINKS_ACCESS_KEY_ID", "STUDIO_LINKS_SECRET_ACCESS_KEY")


def common_environment(settings: StackSettings) -> dict[str, str]:
    """Return what every service inherits; no key is in it."""
    state = settings.state_dir
    return {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",  # set, as in many images, each run compiles anew what it imports: 3 s
        "STUDIO_STATE_DIR": str(state),
        "STUDIO_TRITON_VENV": str(settings.triton_venv),
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_CLI_COLORS": "false",
        **page_addresses(settings),
        "STUDIO_SCRATCH_DIR": os.environ.get("STUDIO_SCRATCH_DIR") or str(scratch(settings)),
        "YOLO_CONFIG_DIR": str(state / "ultralytics"),
        "YOLO_AUTOINSTALL": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"])),
    }


def page_addresses(settings: StackSettings) -> dict[str, str]:
    """Return where browsers find the pages that other pages link; with a front door, behind it."""
    live = f"http://{HOST}:{settings.live_port}/live"
    known = {"STUDIO_LIVE_URL": live}
    if settings.is_container:  # containers have other addresses of them, which browsers do not reach
        known |= {
            "PREFECT_UI_URL": f"http://{HOST}:{settings.prefect_port}",
            "MLFLOW_UI_URL": f"http://{HOST}:{settings.mlflow_port}",
        }
    if settings.public:
        url = settings.public_url
        known = {
            "STUDIO_LIVE_URL": f"{url}/live",
            "PREFECT_UI_URL": f"{url}/prefect",
            "MLFLOW_UI_URL": f"{url}/mlflow",
        }
        if settings.is_of_this_stack("AWS_ENDPOINT_URL"):
            known["STUDIO_S3_URL"] = settings.public_s3_url
    return {name: os.environ.get(name) or value for name, value in known.items()}


def door_environment(settings: StackSettings) -> dict[str, str]:
    """Return by what a service knows the front door; nothing if there is none."""
    return {"STUDIO_FRONT_DOOR_SECRET": settings.secrets["front_door"]} if settings.public else {}


def inherited_environment(settings: StackSettings) -> dict[str, str]:
    """Return the environment of the supervisor and of every service: the shell's without keys, and the common one."""
    shell = {name: value for name, value in os.environ.items() if not name.startswith(GUARDED)}
    return shell | common_environment(settings)


def log_environment(service: str) -> dict[str, str]:
    """Return what has Prefect and MLflow, in a service and in the flow runs that it starts, log as we do."""
    return {
        log_lines.SERVICE_VARIABLE: service,
        "PREFECT_LOGGING_SETTINGS_PATH": str(ROOT / "infra" / "logging" / "prefect.yaml"),
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a line each of a hundred bars
    }


def user_environment(*prefixes: str) -> dict[str, str]:
    """Return what the shell sets under a tool's own names."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def s3_environment(settings: StackSettings, role: Role) -> dict[str, str]:
    """Return address and keys of the object store for a role; the keys of one elsewhere serve all roles."""
    if settings.is_elsewhere("AWS_ENDPOINT_URL"):
        return user_environment("AWS_")
    key, secret = settings.s3_keys(role)
    return {
        "AWS_ENDPOINT_URL": settings.local_environment["AWS_ENDPOINT_URL"],
        "AWS_DEFAULT_REGION": settings.local_environment["AWS_DEFAULT_REGION"],
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    } | dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)


def triton_environment(settings: StackSettings) -> dict[str, str]:
    """Return the addresses of Triton and the key of its load API."""
    addresses = {name: value for name, value in settings.environment.items() if name.startswith("TRITON_")}
    return addresses | {"STUDIO_TRITON_KEY": settings.triton_key}


def review_environment(settings: StackSettings) -> dict[str, str]:
    """Return the addresses and keys of Label Studio and CVAT, if there are any."""
    return {name: value for name, value in settings.environment.items() if name.startswith(_REVIEW)}


def metrics_environment(settings: StackSettings) -> dict[str, str]:
    """Return what the front page needs for its metrics: who may scrape it, and what it may ask itself."""
    found = {"STUDIO_METRICS_TOKEN": settings.secrets["metrics"]}
    if not settings.metrics:
        return found
    found |= {
        "PROMETHEUS_URL": f"http://{settings.host_of('prometheus')}:{settings.prometheus_port}",
        "PROMETHEUS_PASSWORD": settings.secrets["prometheus"],
    }
    if settings.owns_postgres:
        found["STUDIO_METRICS_POSTGRES_URL"] = settings.statistics_url
    return found


def page_environment(settings: StackSettings) -> dict[str, str]:
    """Return the environment of the front page: each service, and the keys that it needs."""
    return {
        **{name: value for name, value in settings.environment.items() if not name.startswith(("AWS_", *_REVIEW))},
        **s3_environment(settings, Role.PAGE),
        **triton_environment(settings),
        **metrics_environment(settings),
        "STUDIO_PASSWORD": settings.secrets["front_page"],
        "PREFECT_CLIENT_MAX_RETRIES": "1",  # a person who looks at a page is told within seconds that Prefect is away
        "STUDIO_S3_EVENTS_SECRET": settings.s3_events_secret.get_secret_value(),
        **accounts_environment(settings),
    }


def accounts_environment(settings: StackSettings) -> dict[str, str]:
    """Return where the front page finds the accounts, and by what it knows the front door; nothing without one."""
    if not settings.public:
        return {}
    return {
        "STUDIO_ACCOUNTS_URL": settings.accounts_url,
        **door_environment(settings),
        "STUDIO_AUDIT_DAYS": str(settings.audit_days),
    }


def worker_environment(settings: StackSettings) -> dict[str, str]:
    """Return the environment of the worker and its flow runs: each service, and the keys that flows need."""
    links = () if settings.is_elsewhere("AWS_ENDPOINT_URL") else zip(LINKS, settings.s3_keys(Role.LINKS), strict=True)
    return {
        **common_environment(settings),
        **settings.environment,
        **s3_environment(settings, Role.WORKER),
        **triton_environment(settings),
        **settings.live_log_environment,
        **dict(links),
    }


def apply_environment(environment: Mapping[str, str], *, local_store: bool) -> None:
    """Update the environment of this process, and remove what would lead its tools elsewhere."""
    os.environ.update(environment)
    for name in ("MLFLOW_REGISTRY_URI", "no_proxy", *(AWS_MISLEADING if local_store else ())):
        os.environ.pop(name, None)


def scratch(settings: StackSettings) -> Path:
    """Return the parent of the scratch folders of the runs."""
    return settings.state_dir / "scratch"


def to_env_file(environment: Mapping[str, str]) -> str:
    """Return lines for `set -a; . .studio/env`."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())
