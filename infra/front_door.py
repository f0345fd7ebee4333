"""The front door: Caddy with TLS, under one host name, in front of studio, Prefect, MLflow and the object store.

Nothing else of the stack listens beyond 127.0.0.1, and this only after `make up PUBLIC=1`. Each request but those of
the object store, which are signed, is asked of the front page: who is it from, and may they do this?
"""

import datetime as dt
import json
import os
import re
import shutil
import socket
import ssl
from pathlib import Path

import httpx
from cryptography import x509

from infra.accounts import cookies
from infra.accounts.visitors import CHECK, NAME_HEADER, ROLE_HEADER, SECRET_HEADER, SOCKET_HEADER
from infra.command_errors import StackError
from infra.environment import inherited_environment
from infra.stack_settings import HOST, StackSettings, write_private
from infra.supervisord import Service, bin_path
from tasks.log_lines import RUN_HEADER

INTERNAL, ACME = "internal", "acme"
RESTART_S = 60  # for which a request waits for a service that is away
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_QUOTED = re.compile(r'[^"`{}\\\x00-\x1f]+')  # what may stand between quotes in Caddy's file


def front_door(settings: StackSettings) -> Service:
    """Return Caddy; it is well if the front page answers through it."""
    return Service(
        name="front-door",
        address=settings.public_url,
        command=[program(), "run", "--config", str(_file(settings)), "--adapter", "caddyfile"],
        ports=_ports(settings),
        check=lambda: check(settings),
        # It keeps what it was given there; it has no key of any service.
        environment=inherited_environment(settings)
        | {"XDG_DATA_HOME": str(_folder(settings)), "XDG_CONFIG_HOME": str(_folder(settings))},
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
    """Write Caddy's file, if it is asked for. It holds the secret of the front door: its owner alone reads it."""
    if not settings.public:
        return
    _folder(settings).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(_file(settings), caddyfile(settings))


def root_certificate(settings: StackSettings) -> Path:
    """Return the file with the certificate that browsers and programs have to trust, if Caddy is its own authority."""
    return _folder(settings) / "store" / "pki" / "authorities" / "local" / "root.crt"


def certificate_end(settings: StackSettings) -> dt.datetime:
    """Return when the certificate ends that browsers get; Caddy's own authority renews all but its root.

    Raises:
        OSError: The front door does not answer, or its authority has no certificate yet.
    """
    if settings.public_tls == INTERNAL:
        return x509.load_pem_x509_certificate(root_certificate(settings).read_bytes()).not_valid_after_utc
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is only looked at
    address = _reached_at(settings).strip("[]"), settings.public_port
    with (
        socket.create_connection(address, timeout=3) as plain,
        context.wrap_socket(plain, server_hostname=settings.public_host) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"").not_valid_after_utc


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
    """An address of this machine at which Caddy listens."""
    first = (settings.public_bind.split() or [""])[0]
    if first in {"", "0.0.0.0", "::"}:  # noqa: S104
        return HOST
    return f"[{first}]" if ":" in first else first


def _folder(settings: StackSettings) -> Path:
    return settings.state_dir / "front-door"


def _file(settings: StackSettings) -> Path:
    return _folder(settings) / "Caddyfile"


def caddyfile(settings: StackSettings) -> str:
    """Return Caddy's configuration.

    What a client sends under the names of the front door is taken off first, in every branch. A service gets a Host of
    its own and no Origin: whether a foreign page asks is decided by the front page, which sees both. In a `route`, and
    nowhere else, Caddy keeps the order of lines: the front page is asked before the path is changed.
    """
    host, port = settings.public_host, settings.public_port
    page = f"{settings.host_of('studio')}:{settings.live_port}"
    prefect = f"{settings.host_of('prefect')}:{settings.prefect_port}"
    mlflow = f"{settings.host_of('mlflow')}:{settings.mlflow_port}"
    return f"""\
{{
	admin off
	persist_config off
	skip_install_trust
	storage file_system {_quoted(_folder(settings) / "store")}
	auto_https disable_redirects
	default_sni {host}
{_bind(settings)}	https_port {port}
	grace_period 3s
	log {{
		output stderr
		level WARN
	}}
	servers {{
		protocols h1 h2
		strict_sni_host on
		timeouts {{
			read_header 15s
			idle 2m
		}}
	}}
}}

(clean) {{
	request_header -{SECRET_HEADER}
	request_header -{NAME_HEADER}
	request_header -{ROLE_HEADER}
	request_header -{SOCKET_HEADER}
	request_header -{RUN_HEADER}
	request_header -X-Forwarded-*
	request_header -Forwarded
	request_header -X-Real-IP
	request_header X-Request-Id {{http.request.uuid}}
}}

# While a service restarts, requests wait for it. What it has begun to answer is not asked again, unless it only reads.
(patient) {{
	lb_try_duration {RESTART_S}s
	lb_try_interval 100ms
}}

(asked) {{
	forward_auth {page} {{
		import patient
		uri {CHECK}
		# Of a WebSocket, too, this is a question: {SOCKET_HEADER} says what is asked about.
		header_up -Connection
		header_up -Upgrade
		header_up Host {page}
		header_up {SECRET_HEADER} {settings.secrets["front_door"]}
		header_up X-Forwarded-For {{http.request.remote.host}}
		header_up X-Forwarded-Host {{http.request.hostport}}
		copy_headers {NAME_HEADER} {ROLE_HEADER}
	}}
}}

(forwarded) {{
	import patient
	header_up {SECRET_HEADER} {settings.secrets["front_door"]}
	header_up X-Forwarded-For {{http.request.remote.host}}
	header_up X-Forwarded-Host {{http.request.hostport}}
	header_up X-Forwarded-Proto https
	header_up Host {{http.reverse_proxy.upstream.hostport}}
	header_up -Origin
	header_up -Referer
	header_up -Sec-Fetch-*
	header_down -Server
}}

(service) {{
	import forwarded
	header_up -Cookie
	header_up -Authorization
}}

https://{host}:{port} {{
	{_tls(settings)}
	route {{
		import clean
		header ?Strict-Transport-Security "max-age=31536000"
		header ?X-Content-Type-Options nosniff
		header ?Referrer-Policy same-origin
		header X-Request-Id {{http.request.uuid}}

		# As services see it: any other request acts by its method, whatever else it says.
		@socket {{
			method GET
			header_regexp Connection (?i)\\bupgrade\\b
			header_regexp Upgrade (?i)^websocket$
		}}
		request_header @socket {SOCKET_HEADER} websocket

		# Caddy's paths know no case, those of roles do.
		@other_case {{
			path_regexp (?i)^/(prefect|mlflow|auth)(/|$)
			not path_regexp ^/(prefect|mlflow|auth)(/|$)
		}}
		respond @other_case 404

		redir /prefect /prefect/
		redir /mlflow /mlflow/

		@unnamed {{
			path /prefect/api/events/out /prefect/api/events/in /prefect/api/logs/out
			header {SOCKET_HEADER} websocket
			not header Authorization *
			not header Cookie *{cookies.SESSION}=*
		}}
		handle @unnamed {{
			reverse_proxy {prefect} {{
				import service
			}}
		}}

		handle /prefect/* {{
			route {{
				import asked
				header ?X-Frame-Options SAMEORIGIN
				reverse_proxy {prefect} {{
					import service
					header_down Location "^https?://{re.escape(prefect)}(/prefect)?/" "/prefect/"
				}}
			}}
		}}

		handle /mlflow/* {{
			route {{
				import asked
				header ?X-Frame-Options SAMEORIGIN
				uri strip_prefix /mlflow
				reverse_proxy {mlflow} {{
					import service
					header_down Location "^https?://{re.escape(mlflow)}/" "/mlflow/"
				}}
			}}
		}}

		handle {CHECK} {{
			respond 404
		}}

		handle {{
			route {{
				import asked
				reverse_proxy {page} {{
					import forwarded
					header_down Location "^https?://{re.escape(page)}/" "/"
				}}
			}}
		}}
	}}
}}

{_store(settings)}"""


def _store(settings: StackSettings) -> str:
    """The site of the object store, if it runs here."""
    if not settings.is_of_this_stack("AWS_ENDPOINT_URL"):
        return ""
    store = f"{settings.host_of('object-store')}:{settings.s3_port}"
    return f"""\
# The object store is asked with signatures, of a Host and a whole path: it has a port of its own, and both as they are.
https://{settings.public_host}:{settings.public_s3_port} {{
	{_tls(settings)}
	route {{
		import clean
		request_header -Cookie
		header ?Strict-Transport-Security "max-age=31536000"
		# A file that somebody uploaded must not act as a page of this host.
		header >Content-Security-Policy "sandbox allow-scripts allow-popups allow-downloads"
		header >X-Content-Type-Options nosniff
		header X-Request-Id {{http.request.uuid}}
		reverse_proxy {store} {{
			import patient
			header_up X-Forwarded-For {{http.request.remote.host}}
			header_down -Server
		}}
	}}
}}
"""


def _bind(settings: StackSettings) -> str:
    return f"\tdefault_bind {settings.public_bind}\n" if settings.public_bind else ""


def _tls(settings: StackSettings) -> str:
    if settings.public_tls == ACME:
        return "tls {\n\t\tissuer acme\n\t}"
    if settings.public_tls == INTERNAL:
        return "tls internal"
    certificate, key = (Path(file).resolve() for file in settings.public_tls.split(","))
    return f"tls {_quoted(certificate)} {_quoted(key)}"


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
