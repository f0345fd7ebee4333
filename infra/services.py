"""The services of the local stack: the command, the ports, the environment and the health check of each."""

import os
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import boto3
import httpx
import yaml
from botocore.config import Config

from infra import front_door, postgres
from infra.command_errors import StackError
from infra.environment import (
    door_environment,
    inherited_environment,
    log_environment,
    page_environment,
    review_environment,
    s3_environment,
    triton_environment,
    user_environment,
    worker_environment,
)
from infra.gpus import gpu_groups
from infra.identities import Role
from infra.loopback import our_names
from infra.metrics import prometheus_services
from infra.person_keys import write_identities
from infra.registration import QUEUES
from infra.stack_settings import HOST, REVIEWER, ROOT, TRITON_PORT_STEP, StackSettings
from infra.store_security import prepare_security
from infra.supervisord import Service, bin_path
from infra.temporary import temporary_folder
from tasks.retention.rules import FORGOTTEN_AFTER
from tasks.storage.object_names import Bucket

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TRAINING = "training"  # the queue of what takes a whole GPU for hours
# How far what nobody waits for in milliseconds stands back behind Triton and the front page: at the end of each epoch
# Prefect has work for a tenth of a second, on the processor of a live prediction if nothing says otherwise.
BOOKKEEPING_NICE = 5
MLFLOW_STATEMENT_S = 30  # what one statement of MLflow may take in its database
WITHOUT_TRITON = {"checks", "imports", TRAINING}  # the queues whose runs never ask Triton
DECIDING = {"rollback", "interactive", "serving"}  # the queues whose runs change what is served, or delete
MORE_TRITONS = "triton-"  # before the number of each but the first


def http_check(url: str) -> Callable[[], object]:
    """Return a check that passes if `url`, which needs no password, answers 2xx."""
    return lambda: httpx.get(url, timeout=3).raise_for_status()


def any_check(urls: Sequence[str]) -> Callable[[], object]:
    """Return a check that passes if one of the addresses answers 2xx."""

    def check() -> None:
        for url in urls[:-1]:
            with suppress(httpx.HTTPError):
                http_check(url)()
                return
        http_check(urls[-1])()

    return check


def services(settings: StackSettings) -> list[Service]:
    """Return the services that run here: a page, workers, and what the environment does not name elsewhere."""
    orchestration = not settings.is_elsewhere("PREFECT_API_URL")
    tracking = not settings.is_elsewhere("MLFLOW_TRACKING_URI")
    is_local: dict[Callable[[StackSettings], Service], bool] = {
        postgres.service: settings.runs_postgres,
        object_store: not settings.is_elsewhere("AWS_ENDPOINT_URL"),
        prefect_server: orchestration,
        mlflow_server: tracking,
        **{
            partial(triton, number=number): not settings.is_elsewhere("TRITON_GRPC_URL")
            for number in range(1, settings.tritons + 1)
        },
        label_studio: settings.runs_label_studio,
        front_page: True,
        front_door.front_door: settings.public,
        worker: True,
        prometheus_services.alert_sender: settings.metrics,
        prometheus_services.alertmanager: settings.metrics,
        prometheus_services.prometheus: settings.metrics,
    }
    return [*(service(settings) for service, local in is_local.items() if local), *training_workers(settings)]


def _ports(settings: StackSettings, *names: str) -> dict[str, int]:
    return {f"STUDIO_{name.upper()}_PORT": getattr(settings, f"{name}_port") for name in names}


def object_store(settings: StackSettings) -> Service:
    """Return SeaweedFS: an S3 server with an identity for each role."""
    arguments = {
        "dir": settings.state_dir / "s3",
        "ip": HOST,
        "ip.bind": HOST,
        "disableHttp": "true",  # the master's, which needs no key: a page's <img> could delete a bucket
        "master.telemetry": "false",
        "master.port": settings.s3_master_port,
        "master.electionTimeout": "1s",  # alone, it still waits that long before it leads; the default is 10 s
        "master.volumeSizeLimitMB": 1024,
        "volume.port": settings.s3_volume_port,
        "volume.preStopSeconds": 0,  # nobody else has to learn that the only volume server goes
        "volume.max": 1000,  # each bucket takes several volumes; the disk is guarded by minFreeSpace
        "volume.minFreeSpace": "1GiB",
        "filer.port": settings.s3_filer_port,
        "filer.disableHttp": "true",  # the filer's own, which needs no key either
        # Their default names in /tmp are the same for every user, and another's socket cannot be replaced.
        "filer.localSocket": temporary_folder(settings) / "filer.sock",
        "s3.localSocket": temporary_folder(settings) / "s3.sock",
        "s3.ip.bind": settings.bind,
        "s3.port": settings.s3_port,
        "s3.config": settings.state_dir / "s3.json",
        "s3.allowedOrigins": ",".join(_origins_of_the_store(settings)),
        "s3.iam": "false",  # identities come from that file alone
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    ports = _ports(settings, "s3", "s3_master", "s3_volume", "s3_filer")
    return Service(
        name="object-store",
        address=f"http://{HOST}:{settings.s3_port}",
        command=[
            bin_path("weed"),
            "-logtostderr=true",
            f"-config_dir={settings.state_dir / 'weed'}",
            "server",
            "-filer",
            "-s3",
            *(f"-{key}={value}" for key, value in arguments.items()),
        ],
        ports=ports | {f"{name} (+10000)": port + 10_000 for name, port in ports.items()},
        check=lambda: read_from_store(settings),
        environment=inherited_environment(settings) | {"TZ": "UTC"},  # its log says no zone
        # It gives its clients 15 s to go, and two of them are parts of itself that stay. What it has acknowledged is in
        # its files.
        stop_seconds=3,
    )


def _origins_of_the_store(settings: StackSettings) -> list[str]:
    """Whose pages may use it: its own, the galleries, and the front page by its names, whose uploads go there."""
    front_page = [f"http://{host}:{settings.live_port}" for host in (HOST, "localhost")]
    return [f"http://{HOST}:{settings.s3_port}", *front_page, *([settings.public_url] if settings.public else [])]


def read_from_store(settings: StackSettings) -> None:
    """Raise unless the object store gives an object, if it has one: after a start it lists before it finds the data."""
    client = s3_client(settings)
    if Bucket.MODELS in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        for item in client.list_objects_v2(Bucket=Bucket.MODELS, MaxKeys=1).get("Contents", []):
            client.get_object(Bucket=Bucket.MODELS, Key=item["Key"], Range="bytes=0-0")["Body"].read()


def prepare_object_store(settings: StackSettings) -> None:
    """Make the folder of the object store, the file of its identities, and the keys between its parts."""
    (settings.state_dir / "s3").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_identities(settings)
    prepare_security(settings.state_dir / "weed")


def s3_client(settings: StackSettings, role: Role = Role.WORKER, read_timeout: float = 10) -> "S3Client":
    """Return a boto3 client for the object store that the stack uses; fails fast, as a health check should."""
    environment = s3_environment(settings, role)
    return boto3.client(
        "s3",
        endpoint_url=settings.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=environment.get("AWS_SESSION_TOKEN"),
        region_name=environment.get("AWS_DEFAULT_REGION"),
        config=Config(connect_timeout=3, read_timeout=read_timeout, retries={"total_max_attempts": 1}),
    )


def prefect_server(settings: StackSettings) -> Service:
    """Return Prefect's API and UI."""
    return Service(
        name="prefect",
        address=f"http://{HOST}:{settings.prefect_port}",
        command=[sys.executable, "-m", "infra.prefect_door"],
        nice=BOOKKEEPING_NICE,
        ports=_ports(settings, "prefect"),
        check=http_check(f"http://{HOST}:{settings.prefect_port}/api/health"),
        environment=inherited_environment(settings)
        # Ended runs go after 90 days with their logs and artifacts, events after 7, heartbeats after one.
        | {
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": f"{FORGOTTEN_AFTER.total_seconds():.0f}",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": '{"prefect.flow-run.heartbeat": 86400}',
        }
        | log_environment("prefect")
        | user_environment("PREFECT_")
        | {
            "PREFECT_API_DATABASE_CONNECTION_URL": database_address(settings, "prefect", "postgresql+asyncpg"),
            **review_environment(settings),  # the patrol asks which reviews have ended
            "PREFECT_SERVER_API_AUTH_STRING": settings.local_environment["PREFECT_API_AUTH_STRING"],
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_METRICS_ENABLED": str(settings.metrics).lower(),
            # `prefect deployment run --watch` shows the log of the run, and with it the outcome.
            "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",
            "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
            "PREFECT_UI_API_URL": "/api",  # relative: the page may be opened by another name, or through a tunnel
            **_under_prefix(settings),
            # By default any web page that somebody here opens may use the API.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
                f"http://{host}:{settings.prefect_port}" for host in (HOST, "localhost")
            ),
        },
    )


def _under_prefix(settings: StackSettings) -> dict[str, str]:
    """Prefect's pages know where they are; the copy with that name in them is this stack's alone."""
    if not settings.public:
        return {}
    return {
        "PREFECT_SERVER_UI_SERVE_BASE": "/prefect",
        "PREFECT_UI_API_URL": "/prefect/api",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.state_dir / "prefect-ui"),
        **door_environment(settings),
    }


def mlflow_server(settings: StackSettings) -> Service:
    """Return MLflow's server and UI; artifacts go through it to S3, so clients need no S3 key."""
    backend = database_address(settings, "mlflow", "postgresql+psycopg2")
    return Service(
        name="mlflow",
        address=f"http://{HOST}:{settings.mlflow_port}",
        command=[sys.executable, "-m", "infra.mlflow_door"],
        nice=BOOKKEEPING_NICE,
        ports=_ports(settings, "mlflow"),
        check=http_check(f"http://{HOST}:{settings.mlflow_port}/health"),
        environment=inherited_environment(settings)
        | log_environment("mlflow")
        | user_environment("MLFLOW_")
        | s3_environment(settings, Role.MLFLOW)
        | {
            "MLFLOW_BACKEND_STORE_URI": backend,
            # The database works on for a client that has left, but no longer than this.
            "PGOPTIONS": f"-c statement_timeout={MLFLOW_STATEMENT_S * 1000}",
            # `mlflow server` sets these for its application.
            "_MLFLOW_SERVER_FILE_STORE": backend,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"s3://{Bucket.MLFLOW}",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "MLFLOW_AUTH_ADMIN_USERNAME": settings.local_environment["MLFLOW_TRACKING_USERNAME"],
            "MLFLOW_AUTH_ADMIN_PASSWORD": settings.local_environment["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": settings.secrets["mlflow_forms"],
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **door_environment(settings),
            # MLflow's own check of names, which knows addresses of private networks but no names in them.
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(f"{name},{name}:*" for name in sorted(our_names())),
        },
    )


def database_address(settings: StackSettings, name: str, driver: str) -> str:
    """Return the address of one database, for SQLAlchemy."""
    return f"{settings.database_url.replace('postgresql', driver, 1)}/{name}"


def triton(settings: StackSettings, number: int = 1) -> Service:
    """Return a tritonserver, from a virtual environment of its own; they are counted from 1."""
    target = settings.local_tritons[number - 1]
    step = (number - 1) * TRITON_PORT_STEP
    ports = _ports(settings, "triton_http", "triton_grpc", "triton_metrics")
    if step:
        ports = {f"{name} (+{step})": port + step for name, port in ports.items()}
    return Service(
        name="triton" if number == 1 else f"{MORE_TRITONS}{number}",
        address=f"http://{target.http}",
        command=[sys.executable, "-m", "infra.triton"],
        ports=ports,
        check=http_check(f"http://{target.http}/v2/health/live"),
        environment=inherited_environment(settings)
        | s3_environment(settings, Role.TRITON)
        | triton_environment(settings)
        | settings.live_log_environment
        | {"TRITON_HTTP_URL": target.http, "TRITON_GRPC_URL": target.grpc}  # its own, by which `predict` finds it
        | {"STUDIO_TRITON_METRICS_PORT": str(settings.triton_metrics_port + step), "TZ": "UTC"},
    )


def label_studio(settings: StackSettings) -> Service:
    """Return Label Studio, from a virtual environment of its own.

    It has an SQLite file of its own: a few people draw at one time, and another database in PostgreSQL would have
    `make up` wait for it where Prefect and MLflow are elsewhere.
    """
    address = f"http://{HOST}:{settings.label_studio_port}"
    options = {
        "BASE_DATA_DIR": str(settings.state_dir / "label-studio"),
        "DJANGO_DB": "sqlite",
        "HOST": "",  # it is opened by two names, and through tunnels
        "DEBUG": "false",
        "LOG_LEVEL": "WARNING",
        "ALLOWED_HOSTS": ",".join(sorted(our_names())),
        "CORS_ALLOW_ALL_ORIGINS": "false",
        "DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "ENABLE_LEGACY_API_TOKEN": "true",  # the one kind that can be made here rather than on its page
        "SSRF_PROTECTION_ENABLED": "true",
        "LOCAL_FILES_SERVING_ENABLED": "false",
        "ENABLE_LOCAL_FILES_STORAGE": "false",
        "SVG_SECURITY_CLEANUP": "true",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
    }
    return Service(
        name="label-studio",
        address=address,
        command=[str(settings.review_venv / "bin" / "python"), "-m", "infra.label_studio_door"],
        nice=BOOKKEEPING_NICE,
        ports=_ports(settings, "label_studio"),
        check=http_check(f"{address}/health/"),
        # Of the shell nothing: it also reads variables of common names, such as DEBUG and HOST.
        environment={f"LABEL_STUDIO_{name}": value for name, value in options.items()}
        | {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        | {
            "HOME": str(settings.state_dir / "label-studio"),
            "PYTHONPATH": str(ROOT),
            "STUDIO_BIND": settings.bind,
            "STUDIO_HOSTS": settings.hosts,
            "STUDIO_LABEL_STUDIO_PORT": str(settings.label_studio_port),
            "STUDIO_REVIEW_USER": REVIEWER,
            "STUDIO_REVIEW_PASSWORD": settings.secrets["label_studio_password"],
            "STUDIO_REVIEW_TOKEN": settings.secrets["label_studio_token"],
        },
    )


def front_page(settings: StackSettings) -> Service:
    """Return the front page; it is well if a Triton that runs here serves model `predict`."""
    address = f"http://{HOST}:{settings.live_port}"
    checks = [http_check(f"{address}/live")]
    if not settings.is_elsewhere("TRITON_GRPC_URL"):
        checks.append(any_check([f"http://{target.http}/v2/models/predict/ready" for target in settings.local_tritons]))
    return Service(
        name="studio",
        address=address,
        command=[sys.executable, "-m", "infra.front_page"],
        ports=_ports(settings, "live"),
        check=lambda: [check() for check in checks],
        environment=inherited_environment(settings) | page_environment(settings),
    )


def worker(settings: StackSettings) -> Service:
    """Return the worker for all runs but trainings, which have workers of their own."""
    return _worker(settings, worker_command(settings), name="worker", port="worker", nice=BOOKKEEPING_NICE)


def training_workers(settings: StackSettings) -> list[Service]:
    """Return a worker for each training that may go on here at one time: one a GPU, or one without."""
    groups = gpu_groups(settings.training_gpus)
    return [
        _worker(
            settings,
            worker_command(settings, gpus="+".join(gpus), queues=[TRAINING]),
            name="-".join(["training-worker", *(gpus if len(groups) > 1 else ())]),
            port="training_worker",
            offset=number,
        )
        for number, gpus in enumerate(groups)
    ]


def worker_command(
    settings: StackSettings,
    *,
    gpus: str = "",
    queues: Iterable[str] = (),
    limit: int | None = None,
    has_triton: bool = True,
) -> list[str]:
    """Return the command of a worker of these queues, else of trainings on these GPUs, else of all but trainings.

    Where no Triton is known, it is one of queues that need none. One that comes by a front door takes nothing that
    changes what is served, or deletes: its keys would not do.

    Raises:
        StackError: There is no such queue, it is none for this worker, or several trainings would share a GPU.
    """
    known = yaml.safe_load(QUEUES.read_text()).keys()
    possible = (known if has_triton else known & WITHOUT_TRITON) - (DECIDING if settings.comes_by_front_door else set())
    taken = sorted(queues) or ([TRAINING] if gpus else sorted(possible - {TRAINING}))
    if unknown := set(taken) - known:
        raise StackError(f"Expected work queues, some of {', '.join(known)}; found {', '.join(sorted(unknown))}.")
    if settings.comes_by_front_door and (deciding := set(taken) & DECIDING):
        raise StackError(
            f"Expected work queues of a worker elsewhere, some of {', '.join(sorted(possible))}; found "
            f"{', '.join(sorted(deciding))}. Their runs change what is served, or delete: leave them to the stack."
        )
    if asking := set(taken) - possible:
        raise StackError(
            f"Expected work queues whose runs need no Triton, some of {', '.join(sorted(possible))}; found "
            f"{', '.join(sorted(asking))}. Name a Triton in TRITON_GRPC_URL and TRITON_HTTP_URL, or leave them out."
        )
    trains = TRAINING in taken
    limit = limit or (1 if trains else settings.worker_limit)
    if trains and limit > 1:
        raise StackError(
            f"Expected one run at a time of a worker that takes trainings, found a limit of {limit}: "
            "trainings that share a GPU end each other. Start a worker for each."
        )
    return [
        *(sys.executable, "-m", "infra.worker", "--limit", str(limit)),
        *(part for name in taken for part in ("--queue", name)),
        *(("--gpus", gpus) if gpus else ()),
        *(("--nice", str(settings.training_nice)) if trains else ()),
    ]


def _worker(
    settings: StackSettings, command: list[str], *, name: str, port: str, offset: int = 0, nice: int = 0
) -> Service:
    health = getattr(settings, f"{port}_port") + offset
    return Service(
        name=name,
        address=f"http://{HOST}:{health}",
        # `make down` ends what a run works with, too: there is nothing to drain for.
        command=[*command, "--name", f"{socket.gethostname()}-{name}", "--drain", "0", "--health", "--prompt"],
        nice=nice,
        ports={setting: number + offset for setting, number in _ports(settings, port).items()},
        check=http_check(f"http://{HOST}:{health}/health"),
        environment=worker_process_environment(settings, name)
        | {"PREFECT_WORKER_WEBSERVER_HOST": HOST, "PREFECT_WORKER_WEBSERVER_PORT": str(health)},
    )


def worker_process_environment(settings: StackSettings, name: str = "") -> dict[str, str]:
    """Return the whole environment of a worker, which logs by that name; without one, as people read it."""
    return (
        inherited_environment(settings)
        | {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # the default is 10 s, and a person waits
        | (log_environment(name) if name else {})
        | user_environment("PREFECT_", "MLFLOW_")
        | worker_environment(settings)
        # Prefect's runner keeps its files under one name in /tmp, which the first user of the machine owns.
        | {"TMPDIR": str(temporary_folder(settings))}
    )
