"""What this machine is."""

import os
import platform
from importlib import metadata
from importlib.util import find_spec

from tests.gpu_proof.setup import Outcome, Setup


def describe(_: Setup) -> Outcome:
    """Card, driver, CUDA and versions."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    left = {
        "gpus": gpus,
        "card": torch.cuda.get_device_name(0) if gpus else "none",
        "memory": f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB" if gpus else "none",
        "driver": _driver() if gpus else "none",
        "CUDA": torch.version.cuda or "none",
        "cuDNN": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "Python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "ONNX Runtime": _onnxruntime(),
    }
    return Outcome(sentence=", ".join(f"{name} {value}" for name, value in left.items()), left=left)


def _driver() -> str:
    if find_spec("pynvml") is None:
        return "unknown"
    import pynvml

    pynvml.nvmlInit()
    return str(pynvml.nvmlSystemGetDriverVersion())


def _onnxruntime() -> str:
    if find_spec("onnxruntime") is None:
        return "none"
    import onnxruntime

    return f"{onnxruntime.__version__} with {', '.join(onnxruntime.get_available_providers())}"
