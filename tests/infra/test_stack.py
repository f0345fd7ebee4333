"""The local stack: kept up, harmless to start twice, closed to other machines."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra import bootstrap, registration, supervisord
from infra import stack as local_stack
from infra.command_errors import StackError
from infra.environment import AWS_MISLEADING, apply_environment, inherited_environment, to_env_file, worker_environment
from infra.ports import is_free
from infra.preflight import require_external_services, require_free_ports
from infra.services import s3_client, services
from infra.stack_settings import StackSettings
from infra.supervisord import Service
from tasks.serving import model_control
from tasks.serving.served_model import ServedModel
from tasks.storage.object_names import Bucket
from tests.clients import pause_schedules, prefect_api
from tests.supervised import process_of
from tests.waiting import eventually


def test_up_twice_is_harmless(stack: StackSettings) -> None:
    before = supervisord.process(stack)
    said: list[str] = []
    began = time.monotonic()
    local_stack.up(stack, said.append)
    assert time.monotonic() - began < 5
    after = supervisord.process(stack)
    assert before is not None
    assert after is not None
    assert before.pid == after.pid
    assert "stack is already up" in said[-1]
    assert [line.split()[0] for line in said[:-2]] == [service.name for service in services(stack)]
    assert all(service.address in line for service, line in zip(services(stack), said, strict=False))


def test_a_part_that_is_not_wanted_any_more_is_not_kept_in_silence(stack: StackSettings) -> None:
    """As `make up METRICS=0` asks on a stack that has them."""
    changed = stack.model_copy(update={"metrics": not stack.metrics})
    with pytest.raises(StackError, match="with or without alert-sender, alertmanager, prometheus: `studio down` first"):
        local_stack.up(changed)


@pytest.mark.heavy
def test_up_mends_what_is_missing_on_a_running_stack(stack: StackSettings) -> None:
    with prefect_api(stack) as api:
        (deployment,) = api.post("/deployments/filter", json={"flows": {"name": {"any_": ["undeploy-model"]}}}).json()
        api.delete(f"/deployments/{deployment['id']}").raise_for_status()
        silent = automation(api)
        silent["trigger"]["within"] = 60
        api.put(f"/automations/{silent.pop('id')}", json=silent).raise_for_status()
        with supervisord.connect(stack) as supervisor:
            supervisor.stopProcess("studio")
        said: list[str] = []
        local_stack.up(stack, said.append)
        assert "stack is up after" in said[-1]
        assert api.get("/deployments/name/undeploy-model/gpu").is_success
        assert automation(api)["trigger"]["within"] == 90
    pause_schedules(stack)
    assert supervisord.states(stack)["studio"] == "RUNNING"


def test_a_start_registers_nothing_that_prefect_knows_and_all_if_something_is_missing(
    stack: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, registered = list[str](), list[bool]()
    monkeypatch.setattr(bootstrap, "register_deployments", lambda: registered.append(True))
    local_stack._register(stack, started.append, lambda: started.append("workers"))
    assert (started, registered) == (["workers"], [])
    monkeypatch.setattr(registration, "is_complete", lambda _: False)
    local_stack._register(stack, started.append, lambda: started.append("workers"))
    assert (started, registered) == (["workers"] * 2, [True])


def automation(api: httpx.Client) -> dict[str, Any]:
    """What marks runs that fell silent, as it can be written back."""
    found = api.post("/automations/filter", json={}).raise_for_status().json()
    (silent,) = (each for each in found if each["name"] == "crash-silent-flow-runs")
    return {name: silent[name] for name in ("id", "name", "description", "enabled", "trigger", "actions")}


def test_status_names_every_service_and_its_health(stack: StackSettings) -> None:
    names = ["postgres", "object-store", "prefect", "mlflow", "triton", "studio", "worker", "training-worker"]
    names += ["label-studio"] if stack.review else []
    names += ["prometheus", "alertmanager", "alert-sender"] if stack.metrics else []
    described = local_stack.describe_services(stack)
    assert sorted(each["service"] for each in described) == sorted(names)
    assert {(each["process"], each["health"]) for each in described} == {("RUNNING", local_stack.WELL)}
    assert all(each["address"] for each in described)


def test_the_environment_file_is_for_its_owner_and_for_shells(stack: StackSettings) -> None:
    path = stack.state_dir / "env"
    assert path.stat().st_mode & 0o077 == 0
    names = {line.partition("=")[0] for line in path.read_text().splitlines()}
    assert {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "TRITON_GRPC_URL"} <= names
    assert to_env_file({"A": "x y'z"}) == "A='x y'\"'\"'z'\n"


def test_nothing_listens_beyond_this_machine(stack: StackSettings) -> None:
    supervisor = supervisord.process(stack)
    assert supervisor is not None
    open_to_all = []
    for process in [supervisor, *supervisor.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # a process that has ended listens to nobody
            open_to_all += [
                (process.name(), connection.laddr)
                for connection in process.net_connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN
                and connection.laddr.ip not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
            ]
    assert open_to_all == []


def test_secrets_are_kept_from_others_and_stay_the_same(stack: StackSettings) -> None:
    assert (stack.state_dir / "secrets.json").stat().st_mode & 0o077 == 0
    assert StackSettings.load().secrets == stack.secrets


def test_the_object_store_refuses_strangers(stack: StackSettings) -> None:
    assert httpx.get(f"{stack.environment['AWS_ENDPOINT_URL']}/datasets").status_code == 403


def kill(stack: StackSettings, name: str) -> None:
    """End a service as the kernel does, and wait until it is well as another process."""
    former = process_of(stack, name)
    former.kill()
    with supervisord.connect(stack) as supervisor:
        pids = {0, former.pid}
        eventually(lambda: supervisor.getProcessInfo(name)["pid"] not in pids, f"another process of {name}")
    killed = [service for service in services(stack) if service.name == name]
    local_stack.wait_until_healthy(killed, stack, lambda _: None)


def test_a_worker_that_is_killed_comes_back(stack: StackSettings) -> None:
    kill(stack, "worker")


def test_an_object_store_that_is_killed_comes_back_and_is_well_when_it_gives_its_data(stack: StackSettings) -> None:
    body = os.urandom(100)
    s3_client(stack).put_object(Bucket=Bucket.MEDIA, Key="killed", Body=body)
    kill(stack, "object-store")
    assert s3_client(stack).get_object(Bucket=Bucket.MEDIA, Key="killed")["Body"].read() == body


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"STUDIO_PREFECT_PORT": port}
        service = Service(name="prefect", address="", command=[], ports=ports, check=lambda: None)
        with pytest.raises(StackError, match=f"port {port} of prefect is in use.*STUDIO_PREFECT_PORT") as raised:
            require_free_ports([service], StackSettings())
    *_, example = str(raised.value).split("export ")
    moved = dict(each.split("=") for each in example.split())
    assert len(moved) == sum(name.endswith("_port") for name in StackSettings.model_fields)
    assert all(is_free(int(port)) for port in moved.values())


def test_a_service_elsewhere_is_not_started_here(monkeypatch: pytest.MonkeyPatch, stack: StackSettings) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.com")
    settings = StackSettings.load()
    names = {service.name for service in services(settings)}
    assert names >= {"postgres", "prefect", "triton", "studio", "worker", "training-worker"}
    assert not names & {"object-store", "mlflow"}
    assert settings.environment["AWS_ENDPOINT_URL"] == "https://s3.example.com"
    assert settings.environment["PREFECT_API_URL"] == stack.environment["PREFECT_API_URL"]


def test_a_triton_that_is_killed_comes_back_and_serves_what_was_deployed(
    stack: StackSettings, served: ServedModel
) -> None:
    """A model is deployed when its config.pbtxt is in the repository: it is loaded again at start."""
    from tasks.parameters import ServingParams
    from tasks.serving.triton_config import config_pbtxt, model_config
    from tasks.storage import steps as storage

    config = config_pbtxt(model_config([served], ServingParams(), served.version))
    storage.write_text.fn(config, "models", f"{served.name}/config.pbtxt")
    kill(stack, "triton")
    assert model_control.list_served_versions(served.name) == [served]


def test_a_hostile_shell_does_not_lead_the_stack_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile, a session token or a proxy of the shell must not reach the local services' clients."""
    for name in (*AWS_MISLEADING, "MLFLOW_REGISTRY_URI", "no_proxy"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("NO_PROXY", "example.com")
    environment = worker_environment(StackSettings())
    for name in environment:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    apply_environment(environment, local_store=True)
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "MLFLOW_REGISTRY_URI"} & os.environ.keys()
    assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"


def test_what_python_compiles_for_a_run_is_kept_whatever_the_shell_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    told = [sys.executable, "-c", "import sys; print(sys.dont_write_bytecode)"]
    environment = inherited_environment(StackSettings())
    assert subprocess.run(told, env=environment, capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_service_elsewhere_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(StackError, match=r"MLFLOW_TRACKING_URI names http://127\.0\.0\.1:9, which does not answer"):
        require_external_services(StackSettings())


def grandchild(command: list[str], environment: dict[str, str]) -> psutil.Process:
    """Start a program that does not descend from the caller, to whom `make down` leaves what does."""
    script = (
        "import subprocess as s, sys; p = s.Popen(sys.argv[1:], start_new_session=True, stdout=s.DEVNULL)\n"
        "print(p.pid, flush=True)"
    )
    line = [sys.executable, "-c", script, *command]
    made = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return psutil.Process(int(made.stdout))


def test_services_of_a_killed_supervisor_are_found_and_ended(stack: StackSettings, tmp_path: Path) -> None:
    """`make down` ends what carries the mark of its state folder, and nothing else: nobody's look into a log."""
    other = stack.model_copy(update={"state_dir": tmp_path})
    mark = {**os.environ, supervisord.STACK_ENV_VAR: str(tmp_path)}
    log = tmp_path / "worker.log"
    log.touch()
    left = grandchild(["sleep", "60"], mark)
    reader = grandchild(["tail", "-f", str(log)], dict(os.environ))
    assert supervisord.processes(other) == [left]
    assert supervisord.stop(other)
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    assert reader.is_running()
    reader.kill()
    assert supervisord.process(stack) is not None
