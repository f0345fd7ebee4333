"""The environment of processes that load weights."""

import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
_BEGINNINGS = (
    *("LC_", "LD_", "XDG_", "SSL_CERT_", "PYTHON", "MPL", "MALLOC_"),
    *("CUDA", "CUBLAS_", "CUDNN_", "NVIDIA_", "NCCL_", "GLOO_", "HIP_", "HSA_", "ROCR_", "ROCM_"),
    *("OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "NUMEXPR_", "TORCH", "PYTORCH_", "YOLO_", "ULTRALYTICS_"),
)
_CREDENTIAL = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL", re.IGNORECASE)


def load_weights_safely(environment: MutableMapping[str, str]) -> None:
    """Have torch and Ultralytics, if imported later, refuse each pickle that names more than a model's own classes."""
    environment["ULTRALYTICS_SAFE_LOAD"] = "1"
    environment.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)


def without_credentials(environment: Mapping[str, str], checkout: Path) -> dict[str, str]:
    """Return what Python, a GPU and a download need of an environment, with `checkout` on Python's path.

    It has no service and no key.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name.upper() in _NAMES or (name.startswith(_BEGINNINGS) and not _CREDENTIAL.search(name))
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(checkout), environment.get("PYTHONPATH"))))
    load_weights_safely(kept)
    return kept
