"""What goes wrong in a real stack fires its own alert in a real Prometheus, and no other, and people are told.

The rules are those of infra/metrics/rules.yml, with seconds where they wait for one minute or two, and a minute where
they look back at ten.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra import supervisord
from infra.stack_settings import StackSettings, write_private
from tasks.orchestration import deployed_flows
from tests.infra.receiver import Receiver, open_receiver
from tests.supervised import process_of
from tests.waiting import eventually

pytestmark = pytest.mark.heavy
SECONDS = 120.0  # in which an alert fires, is over, and is told
SMALL_MB = 20


@pytest.fixture(scope="module")
def watched(stack: StackSettings, prometheus: httpx.Client) -> Iterator[Receiver]:
    """What people are told, by a Prometheus that looks every two seconds."""
    folder = stack.state_dir / "metrics"
    kept = {path: path.read_text() for path in (folder / "rules.yml", folder / "prometheus.yml", folder / "notify")}
    rules = re.sub(r"for: [12]m$", "for: 2s", kept[folder / "rules.yml"], flags=re.MULTILINE)
    quick = re.sub(r"(scrape|evaluation)_interval: 15s", r"\1_interval: 2s", kept[folder / "prometheus.yml"])
    try:
        write_private(folder / "rules.yml", rules.replace("[10m]", "[1m]"))
        write_private(folder / "prometheus.yml", quick.replace("scrape_timeout: 10s", "scrape_timeout: 2s"))
        with open_receiver() as receiver:
            write_private(folder / "notify", receiver.address)
            reload(stack)
            eventually(lambda: not firing(prometheus), "no alert, before anything is done", SECONDS)
            yield receiver
    finally:
        for path, text in kept.items():
            write_private(path, text)
        reload(stack)


def reload(stack: StackSettings) -> None:
    process_of(stack, "prometheus").send_signal(signal.SIGHUP)


def firing(prometheus: httpx.Client) -> set[str]:
    """The alerts that fire now, by name and by what they are about."""
    alerts = prometheus.get("/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    about = ("flow", "kind", "source", "place", "model", "queue")
    return {
        " ".join([each["labels"]["alertname"], *(each["labels"][name] for name in about if name in each["labels"])])
        for each in alerts
        if each["state"] == "firing"
    }


def assert_fires(prometheus: httpx.Client, receiver: Receiver, *expected: str) -> None:
    eventually(lambda: firing(prometheus) == set(expected), f"{expected} alone", SECONDS)
    title = f"Alert: {expected[0].split()[0]}"
    eventually(lambda: title in receiver.titles(), f"message {title!r}", SECONDS)
    assert firing(prometheus) == set(expected)


def test_killing_triton_fires_its_alert_and_no_other(
    stack: StackSettings, prometheus: httpx.Client, watched: Receiver
) -> None:
    with supervisord.connect(stack) as supervisor:
        supervisor.stopProcess("triton")
        try:
            assert_fires(prometheus, watched, "TritonDown triton")
        finally:
            supervisor.startProcess("triton")
    eventually(lambda: not firing(prometheus), "no alert once it is back", SECONDS)
    eventually(lambda: "Over: TritonDown" in watched.titles(), "the message that it is over", SECONDS)


def test_filling_a_disk_fires_its_alert_and_no_other(
    stack: StackSettings, prometheus: httpx.Client, watched: Receiver
) -> None:
    """The disk of the scratch folder: a real file system of 20 MB, which only root can mount."""
    scratch = stack.state_dir / "scratch"
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root mounts a small file system")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", f"size={SMALL_MB}m", "tmpfs", scratch], check=False)
    if made.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        Path(scratch, "filling").write_bytes(bytes(SMALL_MB * 950_000))
        assert_fires(prometheus, watched, "DiskAlmostFull scratch")
    finally:
        subprocess.run([umount, scratch], check=True)
    eventually(lambda: not firing(prometheus), "no alert once there is room", SECONDS)


def test_a_run_that_fails_fires_its_alert_and_no_other(prometheus: httpx.Client, watched: Receiver) -> None:
    """The last of these: it goes on firing for a while."""
    run = deployed_flows.start("validate-dataset", {"archive": "not-there.zip"})
    assert deployed_flows.wait(run).is_failed()
    assert_fires(prometheus, watched, "RunFailed validate-dataset Failed")
