"""Metrics of the machine that the front page runs on: processor, memory, disks, and NVIDIA GPUs if there are any."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pynvml
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily


class MachineSource:
    """The load of the machine, and the disks on which these places are, by name."""

    name = "machine"

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places

    def read(self) -> Iterable[Metric]:
        """Return the metrics of the machine; a place that is not there has none."""
        return [*self._load(), *self._disks(), *self._gpus()]

    def _load(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily(
            "studio_machine_cpu_seconds", "Time of all processors, by what they did.", labels=["mode"]
        )
        for mode, value in psutil.cpu_times()._asdict().items():
            if mode in {"user", "system", "idle", "iowait"}:
                seconds.add_metric([mode], value)
        memory = psutil.virtual_memory()
        yield seconds
        yield GaugeMetricFamily("studio_machine_memory_bytes", "Memory.", value=memory.total)
        yield GaugeMetricFamily(
            "studio_machine_memory_available_bytes", "Memory that programs can still have.", value=memory.available
        )

    def _disks(self) -> Iterator[Metric]:
        size = GaugeMetricFamily("studio_disk_size_bytes", "Size of the disk that a place is on.", labels=["place"])
        free = GaugeMetricFamily("studio_disk_free_bytes", "What of it we can still write.", labels=["place"])
        for place, path in self._places.items():
            with suppress(OSError):
                usage = shutil.disk_usage(path)
                size.add_metric([place], usage.total)
                free.add_metric([place], usage.free)
        yield from (size, free)

    def _gpus(self) -> Iterator[Metric]:
        labels = ["gpu"]
        busy = GaugeMetricFamily(
            "studio_gpu_busy_ratio", "Share of the last second in which a GPU worked.", labels=labels
        )
        memory = GaugeMetricFamily("studio_gpu_memory_bytes", "Memory of a GPU.", labels=labels)
        used = GaugeMetricFamily("studio_gpu_memory_used_bytes", "What of it is taken.", labels=labels)
        with suppress(pynvml.NVMLError):  # no driver here, or a GPU that has just gone
            pynvml.nvmlInit()
            for number in range(pynvml.nvmlDeviceGetCount()):
                gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
                room = pynvml.nvmlDeviceGetMemoryInfo(gpu)
                memory.add_metric([str(number)], room.total)
                used.add_metric([str(number)], room.used)
                busy.add_metric([str(number)], pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)
        yield from (busy, memory, used)
