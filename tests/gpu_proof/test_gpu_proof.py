"""`make gpu-proof` on the processor, with small sizes: so that it works the first time on a machine with a GPU."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gpu_proof import __main__ as driver
from tests.gpu_proof.part import PARTS
from tests.gpu_proof.setup import CPU, Setup
from tests.paths import ROOT

pytestmark = pytest.mark.timeout(driver.PATIENCE * driver.WHOLE_S + 60)
# What neither an image with PyTorch has nor the proof carries.
ABSENT = (
    *("prefect", "mlflow", "pandas", "pyarrow", "polars", "matplotlib"),
    *("scipy", "av", "tritonclient", "boto3", "httpx"),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("proof")
    command = [sys.executable, "-m", "tests.gpu_proof", "--cpu", "--out", str(folder)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ended.stdout)
    read: dict[str, Any] = json.loads((folder / "gpu-proof.json").read_text())
    return read


@pytest.mark.heavy
def test_every_part_passes_but_the_one_that_needs_a_gpu(told: dict[str, Any]) -> None:
    ended = {part["part"]: (part["verdict"], part["sentence"]) for part in told["parts"]}
    assert list(ended) == list(PARTS)
    wrong = {name: each for name, each in ended.items() if each[0] != "passed"}
    assert wrong == {"processes": ("skipped", "Ultralytics trains with one process on a processor")}


@pytest.mark.heavy
def test_figures_stand_beside_the_limit_of_the_same_run(told: dict[str, Any]) -> None:
    figures = {figure["what"]: figure for part in told["parts"] for figure in part["figures"]}
    for what in ("served on the processor, 4 together", "JPEG 640x480 -> table", "film -> annotated film"):
        assert 0 < figures[what]["ratio"] == pytest.approx(figures[what]["value"] / figures[what]["limit"])
    assert {"torch", "CUDA", "driver", "card", "Python"} <= told["machine"].keys()


def test_a_part_that_fails_says_why_and_the_next_one_begins(tmp_path: Path) -> None:
    setup = Setup(folder=tmp_path, device="cpu", gpus=0, scale=CPU)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = driver._do("served", setup, environment, tmp_path, 60)
    assert (done.verdict, done.sentence) == ("failed", "expected a graph, found none: the export failed")
    late = driver._do("machine", setup, environment, tmp_path, 0.1)
    assert late.verdict == "late"
    assert "expected an end within" in late.sentence


@pytest.mark.slow
def test_the_proof_needs_only_what_is_carried() -> None:
    """No part, nor the processes of training and export that it starts, imports what is not there."""
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {ABSENT!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import importlib\n"
        "for name in ('machine', 'training', 'serving', 'pipes'): importlib.import_module(f'tests.gpu_proof.{name}')\n"
        "for name in ('training_run', 'evaluation', 'reference', 'partial_labels'):\n"
        "    importlib.import_module(f'tasks.training.trainer.{name}')\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
