"""The stack of release 0.1.0 (tests/stacks/) on today's code and pins."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.another_stack import another_stack, run_studio, studio
from tests.paths import ROOT

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]
RELEASE = ROOT / "tests" / "stacks" / "release-0.1.0.tar.xz"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with another_stack(tmp_path / "old") as values:
        yield values


def listed(environment: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(studio(environment, *arguments, "--json"))["entries"]
    return found


def test_the_stack_of_the_release_before_is_moved_to_this_one(environment: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(RELEASE) as tar:
        tar.extractall(tmp_path, filter="data")
    assert "upgrade FOLDER" in studio(environment, "restore", str(tmp_path / "backup"))
    refused = run_studio(environment, "up")
    assert refused.returncode == 1
    assert "found one of 0.1.0 (layout 1). `make upgrade TO=FOLDER`" in " ".join(refused.stderr.split())

    told = studio(environment, "upgrade", str(tmp_path / "before"))
    assert "from release 0.1.0, layout 1, to 0.2.0, layout 2" in told
    assert "objects of former locks are gone" in told
    print(told)

    # 0.1.0 kept no record of a check, so the watch checks the archives anew.
    assert {each["name"] for each in listed(environment, "datasets")} == {"old-a.zip", "old-b.zip"}
    (model,) = listed(environment, "models")
    assert (model["name"], model["champion"]) == ("old", 1)
    (version,) = json.loads(studio(environment, "models", "old", "--json"))["versions"]
    assert version["number"] == 1
    (prediction,) = listed(environment, "predictions")
    assert prediction["model"] == "old"
    assert "old-a.zip" in studio(environment, "lineage", "old/1")
    assert "train-model" in studio(environment, "runs")
    # The champion serves as it was, and an inference asks it.
    assert "Completed" in studio(environment, "infer", "old", "demo/old-a.zip")

    assert "is of this release already" in studio(environment, "upgrade", str(tmp_path / "before"))
    names = [
        each["backup"]
        for each in json.loads(studio(environment, "backups", str(tmp_path / "before"), "--json"))["backups"]
    ]
    assert len(names) == 1
