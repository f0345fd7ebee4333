"""What the services and the flow runs inherit, and what of the shell they must not."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from infra.settings import HOST, ROOT, StackSettings

AWS_MISLEADING = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")


def stack_environment(settings: StackSettings) -> dict[str, str]:
    """What every service and flow run inherits."""
    state = settings.state_dir
    return {
        **settings.environment,
        "PYTHONPATH": str(ROOT),
        "STUDIO_STATE_DIR": str(state),
        "STUDIO_TRITON_VENV": str(settings.triton_venv),
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_CLI_COLORS": "false",
        "STUDIO_LIVE_URL": os.environ.get("STUDIO_LIVE_URL") or f"http://{HOST}:{settings.live_port}",
        "STUDIO_SCRATCH_DIR": os.environ.get("STUDIO_SCRATCH_DIR") or str(scratch(settings)),
        "YOLO_CONFIG_DIR": str(state / "ultralytics"),
        "YOLO_AUTOINSTALL": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), HOST, "localhost"])),
    }


def adopt(environment: Mapping[str, str], *, local_store: bool) -> None:
    """Make `environment` the one of this process, without what would lead its tools elsewhere."""
    os.environ.update(environment)
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    os.environ.pop("no_proxy", None)
    if local_store:
        for name in AWS_MISLEADING:
            os.environ.pop(name, None)
        os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)


def scratch(settings: StackSettings) -> Path:
    """Parent of the scratch folders of the runs."""
    return settings.state_dir / "scratch"


def shell_text(environment: Mapping[str, str]) -> str:
    """Lines for `set -a; . .studio/env`."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items())
