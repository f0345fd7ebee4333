"""A real server of Label Studio, without the rest of the stack."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from infra.services import label_studio
from infra.stack_settings import ROOT, StackSettings
from tests.waiting import eventually

ENVIRONMENT = ".venv-review/requirements.txt"
MISSING = "Label Studio cannot be installed here"
START_S = 300  # the first start makes the tables


def install() -> bool:
    """Make its environment, unless it is there; return whether that is possible here."""
    return not subprocess.run(["/usr/bin/make", ENVIRONMENT], cwd=ROOT, check=False, capture_output=True).returncode


@contextmanager
def run_label_studio(folder: Path) -> Iterator[StackSettings]:
    """Run it with its data in a folder while the block lasts; skips the test where it cannot be installed."""
    if not install():
        pytest.skip(MISSING)
    settings = StackSettings(state_dir=folder, review=True)
    service = label_studio(settings)
    with (folder / "label-studio.log").open("w") as log:
        server = subprocess.Popen(service.command, cwd=ROOT, env=service.environment, stdout=log, stderr=log)
        try:
            eventually(lambda: _is_well(service.address, server), "Label Studio answers", START_S)
            yield settings
        finally:
            server.terminate()
            server.wait(20)


def _is_well(address: str, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, "Label Studio ended"
    with suppress(httpx.HTTPError):
        return httpx.get(f"{address}/health/").is_success
    return False


def reviewer(settings: StackSettings) -> httpx.Client:
    """Return its API with the token of `.studio/env`."""
    environment = settings.environment
    return httpx.Client(
        base_url=environment["LABEL_STUDIO_URL"],
        headers={"Authorization": f"Token {environment['LABEL_STUDIO_API_KEY']}"},
        timeout=60,
    )
