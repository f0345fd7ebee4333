"""The front door: Caddy with TLS, under one host name, in front of studio, Prefect, MLflow and the object store.

Nothing else of the stack listens beyond 127.0.0.1, and this only after `make up PUBLIC=1`. Each request but those of
the object store, which are signed, is asked of the front page: who is it from, and may they do this?
"""

import json
import os
import re
import shutil
import socket
import ssl
from pathlib import Path

import httpx
from cryptography import x509

from infra.command_errors import StackError
from infra.environment import inherited_environment
from infra.stack_settings import ROOT, StackSettings
from infra.supervisord import Service, bin_path

CADDYFILE = ROOT / "infra" / "caddy" / "Caddyfile"
INTERNAL, ACME = "internal", "acme"
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_QUOTED = re.compile(r'[^"`{}\\\x00-\x1f]+')  # what may stand between quotes in Caddy's file


def front_door(settings: StackSettings) -> Service:
    """Return Caddy; it is well if the front page answers through it."""
    return Service(
        name="front-door",
        address=settings.public_url,
        command=[program(), "run", "--config", str(CADDYFILE), "--adapter", "caddyfile"],
        ports=_ports(settings),
        check=lambda: check(settings),
        # It has no key of any service.
        environment=inherited_environment(settings)
        | {"XDG_DATA_HOME": str(_folder(settings)), "XDG_CONFIG_HOME": str(_folder(settings))}
        | _variables(settings),
        stop_seconds=5,
    )


def _ports(settings: StackSettings) -> dict[str, int]:
    ports = {"STUDIO_PUBLIC_PORT": settings.public_port}
    if settings.is_of_this_stack("AWS_ENDPOINT_URL"):
        ports["STUDIO_PUBLIC_S3_PORT"] = settings.public_s3_port
    return ports


def program() -> str:
    """Return the path of Caddy: that of STUDIO_CADDY, of this environment, or of the PATH."""
    own = bin_path("caddy")
    return os.environ.get("STUDIO_CADDY") or (own if Path(own).is_file() else shutil.which("caddy") or own)


def require_front_door(settings: StackSettings) -> None:
    """Check that Caddy, if it is asked for, can start with these settings, before anything does.

    Raises:
        StackError: It cannot; the message names the setting.
    """
    if not settings.public:
        return
    if not Path(program()).is_file():
        raise StackError(
            f"Expected Caddy at {program()}, found none: `make setup` installs it, or name one in STUDIO_CADDY."
        )
    if not _NAME.fullmatch(settings.public_host):
        raise StackError(
            f"Expected a host name or an IPv4 address in STUDIO_PUBLIC_HOST, by which people reach this machine; found "
            f"{settings.public_host or 'none'!r}. For example: STUDIO_PUBLIC_HOST=studio.example.org"
        )
    variables = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    if elsewhere := [name for name in variables if not settings.is_of_this_stack(name)]:
        raise StackError(
            f"Expected Prefect and MLflow of this stack behind the front door, found {' and '.join(elsewhere)} to name "
            "servers elsewhere: unset them, or `make up PUBLIC=0` and give those servers a door of their own."
        )
    for address in settings.public_bind.split():
        if not re.fullmatch(r"[0-9a-fA-F:.]+", address):
            raise StackError(f"Expected IP addresses in STUDIO_PUBLIC_BIND, found {address!r}.")
    if settings.public_port == settings.public_s3_port:
        raise StackError(f"Expected another port than {settings.public_port} in STUDIO_PUBLIC_S3_PORT, found the same.")
    if settings.public_tls in {INTERNAL, ACME}:
        return
    files = settings.public_tls.split(",")
    if len(files) != 2 or not all(Path(file).is_file() and _QUOTED.fullmatch(file) for file in files):
        raise StackError(
            f"Expected `{INTERNAL}`, `{ACME}` or CERT.pem,KEY.pem, two files that are there, in STUDIO_PUBLIC_TLS; "
            f"found {settings.public_tls!r}."
        )


def prepare_front_door(settings: StackSettings) -> None:
    """Make the folder in which Caddy keeps its certificates and their keys, if it is asked for."""
    if settings.public:
        _folder(settings).mkdir(mode=0o700, parents=True, exist_ok=True)


def root_certificate(settings: StackSettings) -> Path:
    """Return the file with the certificate that browsers and programs have to trust, if Caddy is its own authority."""
    return _folder(settings) / "store" / "pki" / "authorities" / "local" / "root.crt"


def read_certificate(settings: StackSettings) -> x509.Certificate:
    """Return the certificate that browsers get.

    Raises:
        OSError: The front door does not answer.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is only looked at
    address = _reached_at(settings).strip("[]"), settings.public_port
    with (
        socket.create_connection(address, timeout=3) as plain,
        context.wrap_socket(plain, server_hostname=settings.public_host) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")


def check(settings: StackSettings) -> None:
    """Raise unless Caddy answers on this machine and reaches the front page.

    The certificate is not looked at: one of a public authority may not be there yet, and nothing secret is asked.
    """
    with httpx.Client(verify=False, timeout=3, trust_env=False) as client:  # noqa: S501
        address = f"https://{_reached_at(settings)}:{settings.public_port}/live"
        host = {"Host": f"{settings.public_host}:{settings.public_port}"}
        answer = client.get(address, headers=host, extensions={"sni_hostname": settings.public_host})
    if answer.is_server_error:  # whoever is not signed in gets no page, but an answer
        answer.raise_for_status()


def _reached_at(settings: StackSettings) -> str:
    """An address at which Caddy is reached: of this machine, or of its container."""
    first = (settings.public_bind.split() or [""])[0]
    if first in {"", "0.0.0.0", "::"}:  # noqa: S104
        return settings.host_of("front-door")
    return f"[{first}]" if ":" in first else first


def _folder(settings: StackSettings) -> Path:
    return settings.state_dir / "front-door"


def _variables(settings: StackSettings) -> dict[str, str]:
    """What Caddy puts into its file: text, as it stands there."""
    upstreams = {
        "PAGE": ("studio", settings.live_port),
        "PREFECT": ("prefect", settings.prefect_port),
        "MLFLOW": ("mlflow", settings.mlflow_port),
        "STORE": ("object-store", settings.s3_port),
    }
    return {
        "STUDIO_PUBLIC_HOST": settings.public_host,
        "STUDIO_PUBLIC_PORT": str(settings.public_port),
        "STUDIO_PUBLIC_S3_PORT": str(settings.public_s3_port),
        "STUDIO_FRONT_DOOR_SECRET": settings.secrets["front_door"],
        "STORAGE": _quoted(_folder(settings) / "store"),
        "DEFAULT_BIND": f"default_bind {settings.public_bind}" if settings.public_bind else "",
        "TLS": _tls(settings),
        "STORE_SITE": "import store.caddy" if settings.is_of_this_stack("AWS_ENDPOINT_URL") else "",
        **{f"UPSTREAM_{name}": f"{settings.host_of(host)}:{port}" for name, (host, port) in upstreams.items()},
    }


def _tls(settings: StackSettings) -> str:
    if settings.public_tls == ACME:
        return "tls {\nissuer acme\n}"
    if settings.public_tls == INTERNAL:
        return "tls internal"
    certificate, key = (Path(file).resolve() for file in settings.public_tls.split(","))
    return f"tls {_quoted(certificate)} {_quoted(key)}"


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
