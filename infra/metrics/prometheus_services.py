"""Prometheus, Alertmanager and what passes alerts on: services of the stack after `make up METRICS=1`.

Neither program has a password by itself: a page of another site could silence alerts, and every user of this machine
could read the names of models and flows. So each gets one, as a hash in a file of ours.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import yaml

from infra.environment import inherited_environment
from infra.notification_addresses import parse_addresses
from infra.stack_settings import HOST, TRITON_PORT_STEP, USER, StackSettings, write_private
from infra.supervisord import Service

RULES = Path(__file__).with_name("rules.yml")
SCRAPE_S = 15
KEPT = {"time": "30d", "size": "2GB"}  # whichever is reached first
# The passwords are random and long: more rounds would only cost time at each request.
_ROUNDS = 4
_WITH_PASSWORD = ("prometheus", "alertmanager")


def folder(settings: StackSettings) -> Path:
    """Return where configuration, secrets and data of these services are."""
    return settings.state_dir / "metrics"


def write_files(settings: StackSettings) -> None:
    """Write the configuration of all three; each file appears whole, and only we can read it.

    Raises:
        StackError: An address of STUDIO_NOTIFY is none.
    """
    home = folder(settings)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _WITH_PASSWORD:
        (home / name).mkdir(mode=0o700, exist_ok=True)
    write_passwords(settings)
    write_private(home / "notify", " ".join(parse_addresses(settings.notify.get_secret_value())))
    write_private(home / "rules.yml", RULES.read_text())
    _write(home / "prometheus.yml", _prometheus_configuration(settings))
    _write(home / "alertmanager.yml", _alertmanager_configuration(settings))


def write_passwords(settings: StackSettings) -> None:
    """Write the passwords of these services, and those that they show to others; all are read again at each request."""
    secrets, home = settings.secrets, folder(settings)
    for name in _WITH_PASSWORD:
        hashed = bcrypt.hashpw(secrets[name].encode(), bcrypt.gensalt(_ROUNDS)).decode()
        _write(home / f"{name}-web.yml", {"basic_auth_users": {USER: hashed}})
        write_private(home / f"{name}.password", secrets[name])
    write_private(home / "studio.token", secrets["metrics"])
    write_private(home / "alert-sender.token", secrets["alert_sender"])
    write_private(home / "prefect.password", secrets["prefect"])


def _write(path: Path, configuration: Mapping[str, Any]) -> None:
    write_private(path, yaml.safe_dump(dict(configuration), sort_keys=False))


def _basic_auth(settings: StackSettings, name: str) -> dict[str, str]:
    return {"username": USER, "password_file": str(folder(settings) / f"{name}.password")}


def _prometheus_configuration(settings: StackSettings) -> dict[str, Any]:
    def job(name: str, port: int, **further: object) -> dict[str, Any]:
        return {"job_name": name, "static_configs": [{"targets": [f"{settings.host_of(name)}:{port}"]}], **further}

    token = {"credentials_file": str(folder(settings) / "studio.token")}
    jobs = [
        job("studio", settings.live_port, authorization=token),
        _triton_job(settings),
        job("prometheus", settings.prometheus_port, basic_auth=_basic_auth(settings, "prometheus")),
        job("alertmanager", settings.alertmanager_port, basic_auth=_basic_auth(settings, "alertmanager")),
    ]
    if settings.is_of_this_stack("PREFECT_API_URL"):
        login = _basic_auth(settings, "prefect")
        jobs.append(job("prefect", settings.prefect_port, metrics_path="/api/metrics", basic_auth=login))
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s", "scrape_timeout": "10s"},
        "rule_files": [str(folder(settings) / "rules.yml")],
        "alerting": {
            "alertmanagers": [
                {
                    "basic_auth": _basic_auth(settings, "alertmanager"),
                    "static_configs": [
                        {"targets": [f"{settings.host_of('alertmanager')}:{settings.alertmanager_port}"]}
                    ],
                }
            ]
        },
        "scrape_configs": jobs,
    }


def _triton_job(settings: StackSettings) -> dict[str, Any]:
    """The job of all Tritons in use; one elsewhere has its metrics at the port that those here have."""
    port = settings.triton_metrics_port
    if not settings.is_elsewhere("TRITON_GRPC_URL"):
        here = [f"{HOST}:{port + number * TRITON_PORT_STEP}" for number in range(settings.tritons)]
        return {"job_name": "triton", "static_configs": [{"targets": here}]}
    hosts = {target.http.rpartition(":")[0]: target.by_dns for target in settings.triton_targets}
    named = [f"{host}:{port}" for host, by_dns in hosts.items() if not by_dns]
    found = [{"names": [host], "type": "A", "port": port} for host, by_dns in hosts.items() if by_dns]
    return {"job_name": "triton", "static_configs": [{"targets": named}], "dns_sd_configs": found}


def _alertmanager_configuration(settings: StackSettings) -> dict[str, Any]:
    token = {"credentials_file": str(folder(settings) / "alert-sender.token")}
    webhook = {
        "url": f"http://{settings.host_of('alert-sender')}:{settings.alert_sender_port}/",
        "send_resolved": True,
        "max_alerts": 50,
        "http_config": {"authorization": token},
    }
    return {
        "route": {
            "receiver": "studio",
            "group_by": ["alertname"],
            "group_wait": "10s",
            "group_interval": "1m",
            "repeat_interval": "12h",
            # Alertmanager forgets after these 120 h whom it has told.
            "routes": [{"matchers": ['alertname="NeverBackedUp"'], "repeat_interval": "120h"}],
        },
        "receivers": [{"name": "studio", "webhook_configs": [webhook]}],
    }


def _check(address: str, password: str, path: str = "/-/ready") -> Callable[[], object]:
    """A check with a password, which these two ask for at every address."""
    return lambda: httpx.get(f"{address}{path}", auth=(USER, password), timeout=3).raise_for_status()


def _program(name: str) -> str:
    """The path of a program; its name, if there is none, of which the preflight has told."""
    return shutil.which(name) or name


def _environment() -> dict[str, str]:
    """Of the shell nothing but what every program needs: a proxy would get the passwords."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}


def _address(port: int) -> str:
    return f"http://{HOST}:{port}"


def _service(settings: StackSettings, name: str, program: str, port: int, options: Mapping[str, object]) -> Service:
    return Service(
        name=name,
        address=_address(port),
        command=[_program(program), *(f"--{option}={value}" for option, value in options.items())],
        ports={f"STUDIO_{name.upper()}_PORT": port},
        check=_check(_address(port), settings.secrets[name]),
        environment=_environment(),
    )


def prometheus(settings: StackSettings) -> Service:
    """Return Prometheus, with the rules; neither its admin API nor its shutdown by HTTP is on."""
    home, port = folder(settings), settings.prometheus_port
    options = {
        "config.file": home / "prometheus.yml",
        "web.config.file": home / "prometheus-web.yml",
        "web.listen-address": f"{settings.bind}:{port}",
        "web.cors.origin": re.escape(_address(port)),  # by default any page may read the answers
        "storage.tsdb.path": home / "prometheus",
        **{f"storage.tsdb.retention.{name}": value for name, value in KEPT.items()},
    }
    return _service(settings, "prometheus", settings.prometheus, port, options)


def alertmanager(settings: StackSettings) -> Service:
    """Return Alertmanager, alone: it forms no cluster."""
    home, port = folder(settings), settings.alertmanager_port
    options = {
        "config.file": home / "alertmanager.yml",
        "web.config.file": home / "alertmanager-web.yml",
        "web.listen-address": f"{settings.bind}:{port}",
        "storage.path": home / "alertmanager",
        "cluster.listen-address": "",
    }
    return _service(settings, "alertmanager", settings.alertmanager, port, options)


def alert_sender(settings: StackSettings) -> Service:
    """Return what passes alerts on to the addresses of STUDIO_NOTIFY."""
    address = f"http://{HOST}:{settings.alert_sender_port}"
    return Service(
        name="alert-sender",
        address=address,
        command=[sys.executable, "-m", "infra.metrics.alert_sender", str(folder(settings))],
        ports={"STUDIO_ALERT_SENDER_PORT": settings.alert_sender_port},
        check=lambda: httpx.get(f"{address}/health", timeout=3).raise_for_status(),
        environment=inherited_environment(settings) | {"STUDIO_ALERT_SENDER_PORT": str(settings.alert_sender_port)},
    )
