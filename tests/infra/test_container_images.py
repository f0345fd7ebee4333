"""The worker's image is built and started, by Debian's buildah, podman and runc, on a base of debootstrap.

The base stands in for Docker's image of Python, for no registry of images is reached: it has Debian's own Python 3.11.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.container import PROGRAMS
from infra.demo_data import ArchivePlan, write_archive
from infra.services import s3_client
from infra.stack_settings import ROOT, StackSettings
from tests.clients import prefect_api

PROGRAMS_NEEDED = ("buildah", "podman", "runc", "debootstrap")
MISSING = [name for name in PROGRAMS_NEEDED if shutil.which(name) is None]
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(MISSING), reason=f"there is no {', '.join(MISSING)} here"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a base is made as root"),
]
BASE = "localhost/python-base"
IMAGE = "localhost/yolo-studio/worker-cpu"
CERTIFICATES = Path("/etc/ssl/certs")
STRICT = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host")
LIMITS = ("--ulimit=nofile=10000:10000", "--ulimit=nproc=10000:10000")  # podman's own exceed those of a sandbox
MOUNTS = ("--tmpfs=/tmp:mode=1777", "--tmpfs=/var/lib/studio:exec,mode=1777")


@dataclass(frozen=True)
class Engine:
    """Images and containers in a folder of their own."""

    folder: Path

    @property
    def _storage(self) -> list[str]:
        return ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run"), "--storage-driver=overlay"]

    def buildah(self, *arguments: str) -> str:
        return _output(["buildah", *self._storage, *arguments])

    def podman(self, *arguments: str) -> str:
        return _output(["podman", "--runtime=runc", *self._storage, *arguments])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    engine = Engine(folder)
    _make_base(engine, folder / "debian")
    cache = Path.home() / ".cache" / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    engine.buildah(
        *("bud", "--isolation=chroot", "--format=docker", "--build-arg", f"BASE={BASE}", "--tag", IMAGE),
        *("--volume", f"{cache}:/root/.cache/uv", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"),
        *("--file", "infra/images/worker-cpu.Dockerfile", "."),
    )
    (details,) = json.loads(engine.podman("image", "inspect", IMAGE))
    print(f"worker-cpu: built in {time.monotonic() - began:.0f} s, {details['Size'] / 1e9:.1f} GB")
    yield engine
    engine.podman("system", "reset", "--force")
    shutil.rmtree(folder, ignore_errors=True)


def _make_base(engine: Engine, tree: Path) -> None:
    packages = "ca-certificates,python3,python3-venv,libpython3.11"
    _output(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(tree)])
    name = engine.buildah("from", "scratch")
    engine.buildah("copy", name, str(tree), "/")
    # uv has certificates of its own; a mirror of the registry may have one of this machine.
    for variable in (
        "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"SSL_CERT_FILE={CERTIFICATES}/ca-certificates.crt",
    ):
        engine.buildah("config", "--env", variable, name)
    engine.buildah("commit", "--disable-compression", "--rm", name, BASE)
    shutil.rmtree(tree)


@pytest.fixture
def given(stack: StackSettings, tmp_path: Path) -> Callable[[str], list[str]]:
    """The arguments with which a container finds the services of this machine, and the secrets of its program."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    addresses = (
        *("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"),
        *("TRITON_HTTP_URL", "TRITON_GRPC_URL"),
    )
    environment = {name: stack.environment[name] for name in addresses}
    environment["STUDIO_POSTGRES_URL"] = f"postgresql://postgres@127.0.0.1:{stack.postgres_port}"

    def arguments(program: str) -> list[str]:
        names = PROGRAMS[program].secrets
        for name in names:
            (folder / name).write_text(stack.secrets.get(name, ""))
            (folder / name).chmod(0o444)
        mounts = [f"--volume={folder / name}:/run/secrets/{name}:ro" for name in names]
        return [*mounts, *(f"--env={name}={value}" for name, value in environment.items())]

    return arguments


@pytest.mark.parametrize("program", ["init-stores", "init-prefect"])
def test_what_is_there_is_made_once(engine: Engine, given: Callable[[str], list[str]], program: str) -> None:
    run = ("run", "--rm", "--no-healthcheck", *STRICT, *LIMITS, *MOUNTS, *given(program), IMAGE, program)
    assert engine.podman(*run).splitlines()[-1] == "done"


def test_a_run_completes_in_a_container_of_no_privilege(
    engine: Engine, stack: StackSettings, given: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """As a job of a cluster does it: the id of the run is in the environment, and no worker takes it."""
    plan = ArchivePlan(name="in-a-container.zip", classes=("circle", "square"), train=6, val=4, seed=3)
    archive = write_archive(plan, tmp_path)
    s3_client(stack).upload_file(str(archive), "datasets", archive.name)
    with prefect_api(stack) as api:
        deployment = api.get("/deployments/name/validate-dataset/gpu").raise_for_status().json()["id"]
        wanted = {"parameters": {"archive": archive.name}, "state": {"type": "PENDING"}}
        run = api.post(f"/deployments/{deployment}/create_flow_run", json=wanted).raise_for_status().json()["id"]
        engine.podman(
            *("run", "--rm", "--no-healthcheck", *STRICT, *LIMITS, *MOUNTS, *given("flow-run")),
            *(f"--env=PREFECT__FLOW_RUN_ID={run}", IMAGE, "flow-run"),
        )
        ended = api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
    assert ended["type"] == "COMPLETED", ended


def test_the_worker_is_healthy_as_nobody_and_ends_when_it_is_told_to(
    engine: Engine, given: Callable[[str], list[str]]
) -> None:
    name = engine.podman("run", "--detach", *STRICT, *LIMITS, *MOUNTS, *given("worker"), "--no-healthcheck", IMAGE)
    try:
        health = ("exec", name, ".venv/bin/python", "-I", "-S", "infra/health.py", "http://127.0.0.1:4201/health")
        deadline = time.monotonic() + 180
        while True:
            try:
                engine.podman(*health)
                break
            except AssertionError:
                assert time.monotonic() < deadline, engine.podman("logs", name)
                time.sleep(2)
        assert engine.podman("exec", name, "id", "--user") == "10001"
        with pytest.raises(AssertionError, match="Read-only file system"):
            engine.podman("exec", name, "touch", "/opt/studio/x")
        began = time.monotonic()
        engine.podman("stop", "--time", "60", name)
        assert time.monotonic() - began < 45
    finally:
        engine.podman("rm", "--force", name)
