"""All of infra/compose.yaml but workers, as processes in a network of their own, where each has its container's name.

It needs no engine and no image: what it proves is that the services find each other by the names and the secrets that
the file gives them. What an engine adds (file systems, networks, capabilities) is not in it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.container import BACKUPS
from infra.front_door import program
from infra.stack_settings import ROOT
from tests.infra.compose_services import COMPOSE, PUBLIC, STARTED

UNSHARE = shutil.which("unshare")
MISSING = [name for name in ("unshare", "ip", "prometheus", "prometheus-alertmanager") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network"),
    pytest.mark.skipif(bool(MISSING), reason=f"there is no {', '.join(MISSING)} here"),
    pytest.mark.skipif(shutil.which(program()) is None, reason="Caddy is not installed"),
]


def test_the_services_find_each_other_and_people_come_through_the_front_door_alone(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(COMPOSE['services'])} {PUBLIC}\n")
    folder = tmp_path / "services"
    folder.mkdir()
    folder.chmod(0o711)
    script = f'mount --bind "{hosts}" /etc/hosts && ip link set lo up && mount -t tmpfs tmpfs /mnt && mkdir {BACKUPS}'
    script += ' && exec "$@"'
    line = [sys.executable, "-m", "tests.infra.compose_services", str(folder)]
    ours = ("STUDIO_", "PREFECT_", "MLFLOW_", "AWS_", "TRITON_", "LABEL_STUDIO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [str(UNSHARE), "--mount", "--net", "bash", "-c", script, "bash", *line],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    assert found["seconds"].keys() == {name for name in STARTED if not name.startswith("init-")}
    assert set(found["stranger"].values()) <= {401, 302}
    assert found["sign-in"] == 303
    assert found["admin"] == dict.fromkeys(found["stranger"], 200)
    assert found["from another page"] == 403
    assert found["buckets"] == 5  # of the key of a person
    metrics = found["metrics"]
    assert metrics["targets"] == dict.fromkeys(("studio", "triton", "prefect", "prometheus", "alertmanager"), "up")
    assert metrics["without a password"] == 401
    assert {"prefect", "mlflow", "triton", "postgres", "front-door", "backup"} <= {*metrics["sources that answer"]}
    assert metrics["sources that are away"] == []
    assert metrics["alert-sender, from alertmanager"] == 200
    assert found["users add"] == [0, 35]
    assert found["users"] == ["ada", "admin"]
    assert found["backup"]["age"] < 60
    assert found["restored"]["deployments"] == found["deployments"] > 10
    assert found["restored"]["users"] == ["ada", "admin"]
    returncode, message = found["restored"]["a second time"]
    assert (returncode, "Expected no database 'prefect'" in message) == (1, True), message
