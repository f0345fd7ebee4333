"""Settings of the local stack: its folder, its ports, its secrets, and the addresses that follow from them."""

import json
import os
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra import loopback
from infra.identities import Role, secret_names
from tasks.files import write_atomically
from tasks.triton_targets import TritonTarget, parse_targets

ROOT = Path(__file__).resolve().parent.parent
HOST = loopback.HOST
REGION = "us-east-1"
SECRETS = (
    *("supervisor", "postgres", "prefect", "mlflow", "mlflow_forms", "triton_key", "front_page", "front_door"),
    *("label_studio_password", "label_studio_token"),
    *("admin_password", "accounts_postgres"),
    *("metrics", "metrics_postgres", "prometheus", "alertmanager", "alert_sender", "grafana"),
    *(name for role in Role for name in secret_names(role)),
)
USER = "studio"  # of Prefect and MLflow
POSTGRES_USERS = ("postgres", "studio")  # of which one has a password
METRICS_USER = "studio_metrics"  # of PostgreSQL
ACCOUNTS_USER = (
    "studio_accounts"  # of PostgreSQL, for containers: the front page is not given the password of its owner
)
TRAINING = ("training_gpus", "training_nice")
TRITON_PORT_STEP = 10  # from each port of a Triton to that of the next
LIVE_LOG = ("live_log_dir", "live_log_share", "live_log_mib", "live_log_pictures")
PUBLIC = ("public", "public_bind", "public_host", "public_tls")
ACCOUNTS = ("audit_days", "oidc_issuer", "oidc_client_id", "oidc_client_secret", "oidc_roles")
_HTTPS = 443
PREFECT_PATH = "/prefect/api"  # at a front door
REMEMBERED = {  # beside the ports, from one `make up` to the next
    "review",
    "tritons",
    "metrics",
    "backup_hours",
    *LIVE_LOG,
    *TRAINING,
    *PUBLIC,
    *ACCOUNTS,
}
REVIEWER = "studio@localhost"  # of Label Studio, which wants an address


VARIABLES = {  # of each service, by the variable with its address: no key of one is ever shown to another
    "PREFECT_API_URL": ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"),
    "MLFLOW_TRACKING_URI": ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "AWS_ENDPOINT_URL": (
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "STUDIO_LINKS_ACCESS_KEY_ID",
        "STUDIO_LINKS_SECRET_ACCESS_KEY",
    ),
    "TRITON_GRPC_URL": ("TRITON_HTTP_URL", "TRITON_GRPC_URL", "TRITON_TARGETS", "STUDIO_TRITON_KEY"),
    "LABEL_STUDIO_URL": ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"),
    "CVAT_URL": ("CVAT_URL", "CVAT_ACCESS_TOKEN", "CVAT_USERNAME", "CVAT_PASSWORD", "CVAT_ORGANIZATION"),
}
ADMIN = "admin"  # the first account
REVIEW_TOOLS = ("LABEL_STUDIO_URL", "CVAT_URL")  # of these, there may be none
# By these names containers call each other, as infra/compose.yaml and infra/kubernetes have them.
NAMES = {"PREFECT_API_URL": "prefect", "MLFLOW_TRACKING_URI": "mlflow", "AWS_ENDPOINT_URL": "object-store"}


class StackSettings(BaseSettings):
    """Every field is set by `STUDIO_<FIELD>`; ports chosen at `make up` are remembered in the state folder."""

    model_config = SettingsConfigDict(env_prefix="STUDIO_", frozen=True, extra="ignore")

    state_dir: Path = ROOT / ".studio"
    secrets_dir: Path | None = Field(
        None, description="Folder with a file for each secret, for a container; none: they are in the state folder."
    )
    bind: str = Field(HOST, description="Where the web services listen; another than 127.0.0.1 only in a container.")
    hosts: str = Field("", description="Further names, with commas, by which other containers call a service.")
    triton_venv: Path = ROOT / ".venv-triton"
    review_venv: Path = ROOT / ".venv-review"
    review: bool = Field(False, description="Whether Label Studio is a part of the stack.")
    postgres_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:port of a server elsewhere; its user may create databases."
    )
    supervisor_port: int = Field(9001, ge=1, le=65535)
    postgres_port: int = Field(5433, ge=1, le=65535)
    prefect_port: int = Field(4200, ge=1, le=65535)
    worker_port: int = Field(4201, ge=1, le=65535, description="Health of the worker.")
    training_worker_port: int = Field(
        4202, ge=1, le=65535, description="Health of the worker for trainings; with several, of the first."
    )
    mlflow_port: int = Field(5000, ge=1, le=65535)
    s3_port: int = Field(9000, ge=1, le=55535, description="SeaweedFS also takes each of its ports + 10000, for gRPC.")
    s3_master_port: int = Field(9333, ge=1, le=55535)
    s3_volume_port: int = Field(9334, ge=1, le=55535)
    s3_filer_port: int = Field(9335, ge=1, le=55535)
    triton_http_port: int = Field(8000, ge=1, le=65535)
    triton_grpc_port: int = Field(8001, ge=1, le=65535)
    triton_metrics_port: int = Field(8002, ge=1, le=65535)
    tritons: int = Field(1, ge=1, le=9, description="Tritons that run here; each has the ports of the one before + 10.")
    live_port: int = Field(8003, ge=1, le=65535, description="The front page, with the page of live predictions.")
    label_studio_port: int = Field(8004, ge=1, le=65535)
    public: bool = Field(False, description="Whether people reach the stack from other machines, by the front door.")
    public_bind: str = Field("", description="IP addresses at which the front door listens; empty: all.")
    public_port: int = Field(8443, ge=1, le=65535)
    public_s3_port: int = Field(8444, ge=1, le=65535, description="Of the object store, at the front door.")
    public_host: str = Field("", description="The one host name by which people reach the front door.")
    public_tls: str = Field("internal", description="internal (an authority of its own), acme, or CERT.pem,KEY.pem.")
    metrics: bool = Field(False, description="Whether Prometheus and Alertmanager are parts of the stack.")
    prometheus: str = Field("prometheus", description="The program, as a path or a name on the PATH.")
    alertmanager: str = Field("prometheus-alertmanager", description="The program, as Debian calls it.")
    prometheus_port: int = Field(9090, ge=1, le=65535)
    alertmanager_port: int = Field(9093, ge=1, le=65535)
    alert_sender_port: int = Field(9094, ge=1, le=65535, description="Passes alerts on to STUDIO_NOTIFY.")
    backup_hours: float = Field(48, ge=0, description="Age from which on the last backup is too old; 0: none.")
    live_log_dir: Path | None = Field(
        None, description="Where a sample of the live predictions is kept for monitor-model; none: nowhere."
    )
    live_log_share: float = Field(0.05, ge=0, le=1, description="Share of the requests that are in the sample.")
    live_log_mib: float = Field(256, ge=1, le=1 << 20, description="Most MiB that they take; the oldest go.")
    live_log_pictures: bool = Field(False, description="Whether the pictures of these requests are kept, too.")
    oidc_issuer: str = Field("", description="Address of an OIDC provider that signs people in; empty: none.")
    oidc_client_id: str = Field("", description="How this stack is known to it.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="What this stack shows to it.")
    oidc_roles: str = Field("", description="Which claim gives which role: groups:ml-admins=admin,*=viewer.")
    audit_days: int = Field(365, ge=1, le=36500, description="How long the audit log of accounts is kept.")
    pool: Literal["process", "kubernetes"] = Field(
        "process", description="What runs a flow: a process of a worker, or a job of a Kubernetes cluster."
    )
    worker_image: str = Field("", description="Image of these jobs.")
    namespace: str = Field("yolo-studio", description="Namespace of these jobs.")
    worker_limit: int = Field(15, ge=1, description="Flow runs that the local worker carries out at one time.")
    training_gpus: str = Field(
        "auto", description="GPUs that trainings use here: `auto`, `none`, `0,1` (one training each), `0+1` (together)."
    )
    training_nice: int = Field(10, ge=0, le=19, description="How far trainings stand back behind live predictions.")
    notify: SecretStr = Field(SecretStr(""), description="Apprise addresses that are told what happens; empty: none.")
    s3_events_secret: SecretStr = Field(
        SecretStr(""), description="What senders of event notifications show to the front page; empty: it takes none."
    )

    @field_validator("live_log_dir", mode="before")
    @classmethod
    def _from_anywhere(cls, folder: object) -> object:
        """The folder as other processes find it; an empty text is none."""
        return Path(str(folder)).resolve() if folder else None

    @model_validator(mode="after")
    def _has_ports_of_all_tritons(self) -> Self:
        highest = max(self.triton_http_port, self.triton_grpc_port, self.triton_metrics_port)
        if highest + (self.tritons - 1) * TRITON_PORT_STEP > 65535:
            raise ValueError(f"expected ports up to 65535 of {self.tritons} Tritons, found {highest} of the first")
        return self

    @classmethod
    def load(cls) -> "StackSettings":
        """Return the settings: of the environment first, then of an earlier `make up`, then the defaults."""
        return cls(_env_file=cls().state_dir / "settings.env")

    @property
    def remembered(self) -> dict[str, str | None]:
        """The settings that the last `make up` kept, under their names in the environment."""
        return dotenv_values(self.state_dir / "settings.env")

    def remember(self) -> None:
        """Keep the ports, the database and the parts, so that `make status` and `make down` find what was started."""
        lines = [f"{name}={_quoted(value)}\n" for name, value in self.memory.items()]
        write_private(self.state_dir / "settings.env", "".join(lines))

    @property
    def memory(self) -> dict[str, str]:
        """What is kept, under the names in the environment."""
        names = [name for name in type(self).model_fields if "port" in name or name in REMEMBERED]
        values = {name: getattr(self, name) for name in names}
        if self.postgres_url:
            values["postgres_url"] = self.postgres_url.get_secret_value()
        return {f"STUDIO_{name.upper()}": _plain(value) for name, value in values.items()}

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Passwords and keys of the local stack, as this process has found them first."""
        return self.read_secrets()

    def read_secrets(self) -> dict[str, str]:
        """Return them as they are now; each is made once, and those of an earlier release stay as they are.

        Of a container they are the files that it was given. Any other is one that nobody knows: it opens nothing.
        """
        if self.secrets_dir:
            return {name: new_secret() for name in SECRETS} | read_secrets(self.secrets_dir)
        path = self.state_dir / "secrets.json"
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        missing = {name: new_secret() for name in SECRETS if name not in known}
        if missing:
            self.write_secrets(known | missing)
        return known | missing

    def write_secrets(self, secrets: Mapping[str, str]) -> None:
        """Put these in the place of all passwords and keys of the local stack."""
        write_private(self.state_dir / "secrets.json", json.dumps(dict(secrets)))

    @property
    def person_environment(self) -> dict[str, str]:
        """The variables of `.studio/env`: where the services are, and the passwords of the pages."""
        passwords = {"STUDIO_PASSWORD": self.secrets["front_page"]}
        if self.public:
            passwords["STUDIO_ADMIN_PASSWORD"] = self.secrets["admin_password"]
        if self.runs_label_studio:
            passwords |= {
                "LABEL_STUDIO_USERNAME": REVIEWER,
                "LABEL_STUDIO_PASSWORD": self.secrets["label_studio_password"],
            }
        if self.metrics:
            passwords |= {
                "PROMETHEUS_URL": f"http://{HOST}:{self.prometheus_port}",
                "PROMETHEUS_PASSWORD": self.secrets["prometheus"],
                "ALERTMANAGER_URL": f"http://{HOST}:{self.alertmanager_port}",
                "ALERTMANAGER_PASSWORD": self.secrets["alertmanager"],
            }
        return self.environment | passwords

    @property
    def public_url(self) -> str:
        """The address of the front door."""
        return self._public(self.public_port)

    @property
    def public_s3_url(self) -> str:
        """The address of the object store at the front door."""
        return self._public(self.public_s3_port)

    @property
    def comes_by_front_door(self) -> bool:
        """Whether this machine works for a stack elsewhere, through the front door of that."""
        return self.environment["PREFECT_API_URL"].endswith(PREFECT_PATH)

    def _public(self, port: int) -> str:
        return f"https://{self.public_host}" + ("" if port == _HTTPS else f":{port}")

    @property
    def runs_label_studio(self) -> bool:
        """Whether Label Studio runs here."""
        return self.review and not self.is_elsewhere("LABEL_STUDIO_URL")

    @property
    def runs_postgres(self) -> bool:
        """Whether PostgreSQL runs here: Prefect, MLflow or accounts need it, and none elsewhere is named."""
        is_needed = not (self.is_elsewhere("PREFECT_API_URL") and self.is_elsewhere("MLFLOW_TRACKING_URI"))
        return (is_needed or self.public) and self.postgres_url is None

    @property
    def owns_postgres(self) -> bool:
        """Whether PostgreSQL is a part of the stack: it runs here, or in a container of its own."""
        return self.runs_postgres or (self.is_container and _host(self.database_url) == "postgres")

    @property
    def is_container(self) -> bool:
        """Whether this is one container of a stack."""
        return self.secrets_dir is not None

    def host_of(self, service: str) -> str:
        """Return by which host a service of this stack is reached: this one, or that of its container."""
        return service if self.is_container else HOST

    @property
    def live_log_environment(self) -> dict[str, str]:
        """Where Triton keeps its live log and a worker finds it, and how much of it; nothing if there is none."""
        if self.live_log_dir is None:
            return {}
        return {
            "STUDIO_LIVE_LOG_DIR": str(self.live_log_dir),
            "STUDIO_LIVE_LOG_SHARE": str(self.live_log_share),
            "STUDIO_LIVE_LOG_MIB": str(self.live_log_mib),
            "STUDIO_LIVE_LOG_PICTURES": str(self.live_log_pictures).lower(),
        }

    @property
    def triton_key(self) -> str:
        """The key of the load API of the Triton in use."""
        if self.is_elsewhere("TRITON_GRPC_URL"):
            return os.environ.get("STUDIO_TRITON_KEY", "")
        return self.secrets["triton_key"]

    def s3_keys(self, role: Role) -> tuple[str, str]:
        """Return the key of a role in the local object store, and its secret."""
        key, secret = secret_names(role)
        return self.secrets[key], self.secrets[secret]

    @property
    def database_url(self) -> str:
        """The address of the PostgreSQL server, without a database and a driver."""
        if self.postgres_url:
            return self.postgres_url.get_secret_value().rstrip("/")
        return f"postgresql://{self.postgres_user}:{self.secrets['postgres']}@{HOST}:{self.postgres_port}"

    @property
    def postgres_user(self) -> str:
        """Who owns the local databases. A user has one password, so a rotation of the keys goes to the other user."""
        return self.secrets.get("postgres_user", POSTGRES_USERS[0])

    @property
    def accounts_url(self) -> str:
        """The address of the database of accounts, for SQLAlchemy."""
        url = self.database_url
        if self.is_container:
            url = with_user(url, ACCOUNTS_USER, self.secrets["accounts_postgres"])
        return f"{url.replace('postgresql', 'postgresql+psycopg2', 1)}/studio"

    @property
    def statistics_url(self) -> str:
        """The address at which the statistics of PostgreSQL are read, by a user who may do nothing else."""
        return f"{with_user(self.database_url, METRICS_USER, self.secrets['metrics_postgres'])}/prefect"

    @cached_property
    def local_environment(self) -> dict[str, str]:
        """The names every tool knows, all pointing at local services, with the keys of a person."""
        key, secret = self.s3_keys(Role.PERSON)
        return {
            "PREFECT_API_URL": f"http://{HOST}:{self.prefect_port}/api",
            "PREFECT_API_AUTH_STRING": f"{USER}:{self.secrets['prefect']}",
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{self.mlflow_port}",
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": self.secrets["mlflow"],
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.s3_port}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": REGION,
            "TRITON_HTTP_URL": f"{HOST}:{self.triton_http_port}",
            "TRITON_GRPC_URL": f"{HOST}:{self.triton_grpc_port}",
            "LABEL_STUDIO_URL": f"http://{HOST}:{self.label_studio_port}",
            "LABEL_STUDIO_API_KEY": self.secrets["label_studio_token"],
        } | ({"TRITON_TARGETS": ",".join(map(str, self.local_tritons))} if self.tritons > 1 else {})

    @property
    def local_tritons(self) -> list[TritonTarget]:
        """Where the Tritons of this stack listen, if it runs them: the first at the ports of the settings."""
        steps = range(0, self.tritons * TRITON_PORT_STEP, TRITON_PORT_STEP)
        return [
            TritonTarget(f"{HOST}:{self.triton_grpc_port + step}", f"{HOST}:{self.triton_http_port + step}")
            for step in steps
        ]

    @property
    def triton_targets(self) -> list[TritonTarget]:
        """Where all Tritons in use are, here or elsewhere.

        Raises:
            ValueError: TRITON_TARGETS is not what it should be.
        """
        one = TritonTarget(self.environment["TRITON_GRPC_URL"], self.environment.get("TRITON_HTTP_URL", ""))
        return parse_targets(self.environment.get("TRITON_TARGETS", "")) or [one]

    def is_elsewhere(self, variable: str) -> bool:
        """Return whether the environment names a service that is not the local one of `.studio/env`."""
        return not is_address(os.environ.get(variable, ""), self.local_environment.get(variable, ""))

    def is_of_this_stack(self, variable: str) -> bool:
        """Return whether a service, of `NAMES`, is a part of this stack: here, or in a container of it."""
        if self.is_container:
            return _host(self.environment[variable]) == NAMES[variable]
        return not self.is_elsewhere(variable)

    @cached_property
    def environment(self) -> dict[str, str]:
        """Where the services are: elsewhere if the environment names them, else here; those of review may be none."""
        values = dict(self.local_environment)
        if not self.review:
            values = {name: value for name, value in values.items() if not name.startswith("LABEL_STUDIO_")}
        for leader, names in VARIABLES.items():
            if self.is_elsewhere(leader):
                values = {name: value for name, value in values.items() if name not in names}
                values |= {name: os.environ[name] for name in names if name in os.environ}
        if os.environ.get("TRITON_TARGETS"):  # some may be here, and others elsewhere
            values["TRITON_TARGETS"] = os.environ["TRITON_TARGETS"]
        return values


def _plain(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return "" if value is None else str(value)


def _quoted(value: str) -> str:
    """A value as dotenv reads it back, whatever is in it."""
    if not set(value) & set(" #'\"\\$\n\t`"):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def with_user(address: str, user: str, password: str) -> str:
    """Return the address of a server as another user opens it."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def _host(address: str) -> str | None:
    return urlsplit(address).hostname


def is_address(named: str, known: str) -> bool:
    """Return whether an address is the known one, by whatever name of this machine, or none at all."""
    return named.rstrip("/").replace("//localhost:", f"//{HOST}:") in {"", known}


def new_secret() -> str:
    """Return a password that nobody guesses: 128 bits in hex, which every program takes."""
    return secrets.token_hex(16)


def read_secrets(folder: Path) -> dict[str, str]:
    """Return the content of each file of the folder by its name; an end of line at its end is none of it."""
    return {path.name: path.read_text().rstrip("\r\n") for path in sorted(folder.iterdir()) if path.is_file()}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; it appears whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with write_atomically(path) as unfinished:
        unfinished.touch(mode=0o600)
        unfinished.write_text(text)
