"""The control plane of Triton: what is loaded, and whether it answers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from prefect import task
from prefect.cache_policies import NO_CACHE
from tritonclient.utils import InferenceServerException

from tasks.core import triton_config
from tasks.core.errors import StudioError
from tasks.core.parameters import ServingParams
from tasks.core.served import ServedModel
from tasks.core.settings import Settings

CALL_TIMEOUT_S = 15.0
SMOKE_TIMEOUT_S = 60.0
POLL_S = 0.2
KEY_HEADER = "triton-access-key"
GREY = 114


class ServingError(StudioError):
    """Triton is down, refused what it was told, or does not answer as it should; the message says what to do."""


@task(cache_policy=NO_CACHE)
def load_versions(model_name: str, versions: Sequence[ServedModel], serving: ServingParams) -> None:
    """Serve exactly these versions of a model; returns when Triton has loaded them.

    Requests go on being answered while it loads. Raises ServingError with Triton's own reason where a version does not
    load: Triton then serves what it served before.
    """
    config = triton_config.model_config(versions, serving)
    if config["name"] != model_name:
        raise ValueError(f"expected versions of {model_name!r}, found versions of {config['name']!r}")
    numbers = ", ".join(str(model.version) for model in versions)
    with _control(f"load {model_name} (versions {numbers})", serving.load_timeout_s) as triton:
        triton.load_model(model_name, headers=_key(), config=triton_config.config_json(config))
    # Triton calls a load a success that passed over a version without a folder.
    absent = [model.version for model in versions if not _is_ready(model_name, model.version)]
    if absent:
        raise ServingError(
            f"expected Triton to load versions {numbers} of {model_name}, found no {absent} in its repository: "
            f"is s3://models/{model_name}/VERSION/ there, with model.py and model.onnx? Deploy that version again."
        )


@contextmanager
def or_else(before: Sequence[ServedModel], serving: ServingParams, model_name: str) -> Iterator[None]:
    """Serve exactly what was served `before` when the block fails."""
    try:
        yield
    except Exception:
        with suppress(ServingError):  # the reason that counts is the first one
            if before:
                load_versions(model_name, before, serving)
            else:
                unload(model_name)
        raise


@task(cache_policy=NO_CACHE)
def wait_until_ready(model_name: str, version: int, timeout_s: float) -> None:
    """Return when this version answers requests; raises ServingError with the state Triton gives after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not _is_ready(model_name, version):
        if time.monotonic() > deadline:
            raise ServingError(
                f"expected {model_name} version {version} to be ready within {timeout_s:g} s, found it "
                f"{_state(model_name, version)}. Read Triton's log (`make status` says where), then deploy again."
            )
        time.sleep(POLL_S)


def _is_ready(model_name: str, version: int) -> bool:
    with _control(f"ask whether {model_name} version {version} is ready") as triton:
        return bool(triton.is_model_ready(model_name, str(version)))


@task(cache_policy=NO_CACHE)
def served_versions(model_name: str) -> list[ServedModel]:
    """The versions of a model that answer requests now, oldest first; empty where it is not loaded."""
    numbers = sorted(int(row["version"]) for row in _index(model_name) if row.get("state") == "READY")
    with _control(f"read what is served of {model_name}") as triton:
        configs = [(number, triton.get_model_config(model_name, str(number))) for number in numbers]
    try:
        return [triton_config.served_model(config, number) for number, config in configs]
    except ValueError as error:
        raise ServingError(f"Triton serves a {model_name} that was not deployed from here: {error}") from error


def served_model(model_name: str, version: int) -> ServedModel:
    """One version that answers requests now; raises ServingError where Triton does not serve it."""
    served = served_versions(model_name)
    for model in served:
        if model.version == version:
            return model
    found = f"versions {[model.version for model in served]}" if served else "no version"
    raise ServingError(
        f"expected Triton to serve {model_name} version {version}, found {found}. "
        f"Run deploy-model/gpu with model_name {model_name!r} and version {version}."
    )


@task(cache_policy=NO_CACHE)
def drain(old: Sequence[ServedModel], serving: ServingParams) -> list[ServedModel]:
    """Wait until nobody asks the old versions any more; returns those still in use after `drain_timeout_s`."""
    counts, quiet_since, began = None, time.monotonic(), time.monotonic()
    while old:
        found, now = [_requests(model) for model in old], time.monotonic()
        if found != counts:
            counts, quiet_since = found, now
        if now - quiet_since >= serving.drain_s:
            break
        if now - began >= serving.drain_timeout_s:
            return list(old)
        time.sleep(POLL_S)
    return []


def still_used(kept: Sequence[ServedModel]) -> str:
    """The end of a sentence about versions that could not be dropped."""
    if not kept:
        return ""
    return f"; versions {[model.version for model in kept]} are still in use and stay loaded until the next deploy"


def _requests(model: ServedModel) -> int:
    with _control(f"count the requests to {model.name} version {model.version}") as triton:
        statistics = triton.get_inference_statistics(model.name, str(model.version))
    return sum(int(row.get("inference_count", 0)) for row in statistics["model_stats"])


@task(cache_policy=NO_CACHE)
def smoke_test(model: ServedModel) -> None:
    """Ask this version for one grey image over gRPC; raises ServingError unless [1,300,6] finite floats come back."""
    image = np.full((1, model.image_size, model.image_size, 3), GREY, np.uint8)
    tensor = triton_grpc.InferInput(triton_config.INPUT, list(image.shape), "UINT8").set_data_from_numpy(image)
    address = Settings().triton_grpc_url
    try:
        with triton_grpc.InferenceServerClient(address) as triton:
            answer = triton.infer(model.name, [tensor], str(model.version), client_timeout=SMOKE_TIMEOUT_S)
            found = answer.as_numpy(triton_config.OUTPUT)
    except InferenceServerException as error:
        if not _answers_grpc(address):
            raise _unreachable("TRITON_GRPC_URL", address, "answer a test image", error) from error
        raise ServingError(f"{model.name} version {model.version} refused a test image: {_reason(error)}") from error
    shape = (1, triton_config.MAX_DETECTIONS, triton_config.DETECTION_FIELDS)
    if found is None or found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
        what = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
        raise ServingError(f"{model.name} version {model.version}: expected finite float32 {list(shape)}, found {what}")


def _answers_grpc(address: str) -> bool:
    """Whether a server is there: Triton gives the same status for a model that is not loaded as gRPC for no server."""
    try:
        with triton_grpc.InferenceServerClient(address) as triton:
            return bool(triton.is_server_live(client_timeout=CALL_TIMEOUT_S))
    except InferenceServerException:
        return False


@task(cache_policy=NO_CACHE)
def unload(model_name: str, timeout_s: float = 60.0) -> None:
    """Stop serving every version of a model; returns when Triton has let go of it. Does nothing where none is loaded.

    Requests that Triton has already taken are answered. Raises ServingError after `timeout_s`.
    """
    with _control(f"unload {model_name}") as triton:
        triton.unload_model(model_name, headers=_key())
    deadline = time.monotonic() + timeout_s
    while any(row.get("state") in {"READY", "LOADING", "UNLOADING"} for row in _index(model_name)):
        if time.monotonic() > deadline:
            raise ServingError(f"{model_name} is still loaded {timeout_s:g} s after it was unloaded: see Triton's log")
        time.sleep(POLL_S)


def _index(model_name: str) -> list[dict[str, str]]:
    with _control(f"list the versions of {model_name}") as triton:
        rows: list[dict[str, str]] = triton.get_model_repository_index(headers=_key())
    return [row for row in rows if row["name"] == model_name and "version" in row]


def _state(model_name: str, version: int) -> str:
    for row in _index(model_name):
        if row["version"] == str(version):
            return f"{row.get('state', 'in no state')} ({_one_line(row.get('reason', '')) or 'no reason given'})"
    return "not loaded"


def _key() -> dict[str, str]:
    return {KEY_HEADER: Settings().studio_triton_key.get_secret_value()}


@contextmanager
def _control(purpose: str, timeout_s: float = CALL_TIMEOUT_S) -> Iterator[Any]:
    """One client for one call; whatever goes wrong in it becomes a ServingError that says what was being done."""
    address = Settings().triton_http_url
    try:
        with triton_http.InferenceServerClient(
            address, connection_timeout=CALL_TIMEOUT_S, network_timeout=timeout_s
        ) as triton:
            yield triton
    except InferenceServerException as error:
        raise ServingError(f"Triton at {address} could not {purpose}: {_reason(error)}") from error
    except TimeoutError as error:
        raise ServingError(f"Triton at {address} did not {purpose} within {timeout_s:g} s: see Triton's log") from error
    except (OSError, HTTPException) as error:
        raise _unreachable("TRITON_HTTP_URL", address, purpose, error) from error


def _reason(error: InferenceServerException) -> str:
    words = _one_line(str(error.message()))
    if error.status() == "403":
        words += ". Set STUDIO_TRITON_KEY to the key that Triton was started with (`. .studio/env`)."
    return words


def _one_line(words: str) -> str:
    """Triton's words without the traceback that its Python backend adds after them."""
    return " ".join(words.partition("\n\nAt:")[0].split())


def _unreachable(setting: str, address: str, purpose: str, error: Exception) -> ServingError:
    return ServingError(
        f"expected Triton at {address} ({setting}) to {purpose}, found no answer there ({error}). "
        "See whether it runs with `make status`, start it with `make up`."
    )
