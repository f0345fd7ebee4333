"""Which GPUs a training worker has."""

import itertools
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
import yaml

from infra.command_errors import StackError
from infra.gpus import gpu_groups, hold
from infra.services import WITHOUT_TRITON, worker_command
from infra.stack_settings import ROOT, StackSettings


@pytest.mark.parametrize(
    ("wanted", "groups"),
    [("none", []), ("0", [("0",)]), ("0,1", [("0",), ("1",)]), ("0+1,2", [("0", "1"), ("2",)])],
)
def test_each_group_is_a_worker(wanted: str, groups: list[tuple[str, ...]]) -> None:
    assert gpu_groups(wanted) == groups


@pytest.mark.parametrize("wanted", ["", "0,", "0,0", "0+1,1", "all of them", "../0", "0;1"])
def test_what_names_no_gpu_or_one_twice_is_refused(wanted: str) -> None:
    with pytest.raises(StackError, match=r"Expected STUDIO_TRAINING_GPUS .* found"):
        gpu_groups(wanted)


def test_each_gpu_of_the_machine_has_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is a stand-in: there is no GPU here."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    assert gpu_groups("auto") == [("0",), ("1",)]


def test_without_a_gpu_there_is_one_worker_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert gpu_groups("auto") == [()]


def test_no_two_workers_have_one_gpu(tmp_path: Path) -> None:
    with hold(["0", "1"], tmp_path), pytest.raises(StackError, match=r"Expected GPU 1 to be free"):
        hold(["2", "1"], tmp_path)
    with hold(["1", "2"], tmp_path):
        pass


def values(command: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(command) if name == option]


def test_a_worker_with_a_gpu_takes_one_training_at_a_time() -> None:
    command = worker_command(StackSettings(), gpus="1")
    assert values(command, "--queue") == ["training"]
    assert values(command, "--limit") == ["1"]
    assert values(command, "--gpus") == ["1"]


def test_a_worker_without_one_takes_everything_else() -> None:
    taken = values(worker_command(StackSettings()), "--queue")
    assert "training" not in taken
    assert {"interactive", "serving", "inference", "rollback"} <= {*taken}


def test_a_queue_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(StackError, match=r"Expected work queues, some of rollback, interactive, .*; found cpu\."):
        worker_command(StackSettings(), queues=["checks", "cpu"])


def test_a_worker_that_knows_no_triton_takes_what_needs_none() -> None:
    known = StackSettings()
    assert {*values(worker_command(known, has_triton=False), "--queue")} == WITHOUT_TRITON - {"training"}
    assert values(worker_command(known, gpus="0", has_triton=False), "--queue") == ["training"]
    with pytest.raises(StackError, match=r"need no Triton, some of checks, imports, training; found inference\."):
        worker_command(known, queues=["inference", "checks"], has_triton=False)


def test_a_worker_that_comes_by_a_front_door_takes_nothing_that_changes_what_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://studio.example.org:8443/prefect/api")
    known = StackSettings()
    assert {*values(worker_command(known), "--queue")} == {"checks", "imports", "inference", "pipelines", "reviews"}
    assert {*values(worker_command(known, has_triton=False), "--queue")} == {"checks", "imports"}
    with pytest.raises(StackError, match=r"of a worker elsewhere, some of .*; found interactive, serving\."):
        worker_command(known, queues=["serving", "checks", "interactive"])


@pytest.mark.slow
def test_runs_of_the_queues_that_need_no_triton_do_not_know_its_client() -> None:
    flows = [
        each["entrypoint"].partition(":")[0].removesuffix(".py").replace("/", ".")
        for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        if each["work_pool"]["work_queue_name"] in WITHOUT_TRITON
    ]
    assert len(flows) >= 4
    code = f"import sys, {', '.join(flows)}; sys.exit('tritonclient' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_trainings_do_not_share_a_worker() -> None:
    with pytest.raises(StackError, match=r"Expected one run at a time .* found a limit of 2"):
        worker_command(StackSettings(), gpus="0", limit=2)
