"""Metrics of the machine; its GPUs are stand-ins, as no machine of the tests is sure to have one."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from infra.metrics.machine_source import MachineSource


def read(**places: Path) -> dict[tuple[str, ...], float]:
    samples = [sample for metric in MachineSource(places).read() for sample in metric.samples]
    return {(each.name.removeprefix("studio_"), *each.labels.values()): each.value for each in samples}


@pytest.fixture
def _two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetMemoryInfo": lambda number: SimpleNamespace(total=100, used=10 * number),
        "nvmlDeviceGetUtilizationRates": lambda number: SimpleNamespace(gpu=50 * number),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


@pytest.mark.usefixtures("_two_gpus")
def test_each_gpu_has_its_load_and_its_memory() -> None:
    found = read()
    names = ("gpu_busy_ratio", "gpu_memory_bytes", "gpu_memory_used_bytes")
    assert {(name, gpu): found[name, gpu] for name in names for gpu in "01"} == {
        ("gpu_busy_ratio", "0"): 0,
        ("gpu_busy_ratio", "1"): 0.5,
        ("gpu_memory_bytes", "0"): 100,
        ("gpu_memory_bytes", "1"): 100,
        ("gpu_memory_used_bytes", "0"): 0,
        ("gpu_memory_used_bytes", "1"): 10,
    }


def test_without_a_driver_there_is_no_gpu_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    found = read()
    assert [key for key in found if key[0].startswith("gpu_")] == []
    assert found["machine_memory_bytes",] > found["machine_memory_available_bytes",] > 0
    assert found["machine_cpu_seconds_total", "user"] > 0


def test_a_place_that_is_not_there_has_no_disk(tmp_path: Path) -> None:
    found = read(state=tmp_path, store=tmp_path / "missing")
    assert found["disk_size_bytes", "state"] == shutil.disk_usage(tmp_path).total
    assert [key for key in found if "store" in key] == []
