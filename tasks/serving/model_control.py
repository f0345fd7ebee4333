"""The control plane of Triton: load and unload versions, and read which are served.

Each function is about one server (`servers.talking_to`), except those that say otherwise.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from tasks.orchestration.step import retried, retried_step, step
from tasks.parameters import ServingParams
from tasks.serving import triton_config
from tasks.serving.canary_rules import RequestStats
from tasks.serving.http_client import ServingError, access_key_header, triton_http_client
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import call_on_each, live_servers
from tasks.serving.triton_names import candidate_name, is_aside, kept_version, list_names, model_name_of

T = TypeVar("T")

POLL_INTERVAL_S = 0.2
RELOAD_DELAY_S = 1.0  # after a load that failed, Triton still unloads what it had loaded for it


def build_config(versions: Sequence[ServedModel], serving: ServingParams, champion: int) -> dict[str, Any]:
    """Return the config by which this server serves exactly these versions.

    Raises:
        ServingError: One config cannot serve them.
    """
    try:
        return triton_config.model_config(versions, serving, champion, read_server_version())
    except ValueError as error:
        raise ServingError(str(error)) from error


@step
def load_versions(model_name: str, versions: Sequence[ServedModel], serving: ServingParams, champion: int) -> None:
    """Serve exactly these versions of a model; returns when Triton has loaded them.

    Requests are answered while it loads, and from one moment to the next by these versions. If a version does not load,
    this raises ServingError with Triton's own reason, and Triton serves what it served before. Such a version is tried
    aside first (`load_aside`): alone under its name it did not bring Triton down in 170 refusals.

    Raises:
        ValueError: They are versions of another model.
    """
    config = build_config(versions, serving, champion)
    if config["name"] != model_name:
        raise ValueError(f"expected versions of {model_name!r}, found versions of {config['name']!r}")
    _load_all(config, serving.load_timeout_s)


def _load_all(config: Mapping[str, Any], timeout_s: float) -> None:
    name = config["name"]
    versions = triton_config.config_versions(config)
    numbers = ", ".join(map(str, versions))
    _load(config, f"load {name} (versions {numbers})", timeout_s)
    # Triton skips a version without a folder, and calls the load a success.
    absent = [version for version in versions if not _is_ready(name, version)]
    if absent:
        raise ServingError(
            f"expected Triton to load versions {numbers} of {name}, found no {absent} in its repository: "
            f"is s3://models/{name}/VERSION/ there, with model.py and model.onnx? Deploy that version again."
        )


@step
def load_aside(model: ServedModel, serving: ServingParams, until: float | None = None, *, exact: bool = False) -> None:
    """Serve a version under its name aside, for clients that name the version, until `until` in seconds since 1970.

    Returns when it answers. With `exact` backend python loads it in its very precision, or not at all.

    Raises:
        ServingError: It does not load.
    """
    config = build_config([model], serving, triton_config.NO_DEFAULT_VERSION)
    if until is not None:
        config = triton_config.set_kept_until(config, until)
    if exact:
        config = triton_config.require_exact_precision(config)
    _load_all(config, serving.load_timeout_s)


@retried_step
def serve_alone(model: ServedModel, serving: ServingParams) -> None:
    """Serve this version and no other, as the champion; does nothing if that is so.

    It waits for a Triton that is starting: its config.pbtxt may have been the one before.
    """
    served = read_snapshot.fn(model.name)
    if served.versions != (model,) or served.champion != model.version:
        load_versions.fn(model.name, [model], serving, model.version)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What Triton serves of a model: the versions, oldest first, the champion's number, and the config.

    If nothing is served, the config is None and the champion NO_DEFAULT_VERSION.
    """

    model_name: str
    versions: tuple[ServedModel, ...] = ()
    champion: int = triton_config.NO_DEFAULT_VERSION
    config: Mapping[str, Any] | None = None

    @property
    def champion_model(self) -> ServedModel | None:
        """The version for clients that name none; None if there is none."""
        return next((model for model in self.versions if model.version == self.champion), None)


@step
def read_snapshot(model_name: str) -> Snapshot:
    """Return the versions that Triton serves of a model now."""
    versions = list_served_versions(model_name)
    if not versions:
        return Snapshot(model_name=model_name)
    config = _config(model_name, versions[-1].version)
    return Snapshot(
        model_name=model_name,
        versions=tuple(versions),
        champion=_described(model_name, lambda: triton_config.read_champion_version(config)),
        config=config,
    )


def current_serving_params(model_name: str) -> ServingParams:
    """Return how the versions of a model are served now; the defaults if none is."""
    config = retried(read_snapshot)(model_name).config
    return triton_config.read_serving_params(config) if config else ServingParams(precision="f32")


@step
def restore(before: Snapshot, timeout_s: float) -> None:
    """Serve exactly what was served when the snapshot was taken; does nothing if that is still so.

    A Triton that has refused one of several versions serves what it served, but 2.51 went down with a segmentation
    fault a moment later in 1 of 40 times: so this reads its state after that moment.
    """
    time.sleep(RELOAD_DELAY_S)
    deadline = time.monotonic() + timeout_s
    while any(row.get("state") == "LOADING" for row in _index(before.model_name)) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)  # a load that ran into its timeout
    if read_snapshot.fn(before.model_name) == before:
        return
    if before.config is None:
        unload.fn(before.model_name)
    else:
        _load(before.config, f"load {before.model_name} as it was", timeout_s)


def _load(config: Mapping[str, Any], purpose: str, timeout_s: float) -> None:
    with triton_http_client(purpose, timeout_s) as triton:
        triton.load_model(config["name"], headers=access_key_header(), config=json.dumps(config))


def load_deployed(model_name: str, timeout_s: float = 120.0) -> None:
    """Serve a model as its config.pbtxt in the repository says.

    Raises:
        ServingError: It does not load; Triton serves what it served before.
    """
    with triton_http_client(f"load {model_name} as it is deployed", timeout_s) as triton:
        triton.load_model(model_name, headers=access_key_header())


def read_config(model_name: str) -> Mapping[str, Any] | None:
    """Return the config by which a model is served under its name, whoever has deployed it; None if it is not."""
    versions = sorted(int(row["version"]) for row in _index(model_name) if row.get("state") == "READY")
    return _config(model_name, versions[-1]) if versions else None


def list_loaded_names() -> list[str]:
    """Return the names under which something is loaded, models' own and aside."""
    rows = _repository_index("list what it serves")
    return sorted({row["name"] for row in rows if row.get("state") in {"READY", "LOADING"}})


def _config(model_name: str, version: int) -> Any:  # noqa: ANN401 - JSON
    with triton_http_client(f"read the config of {model_name} version {version}") as triton:
        return triton.get_model_config(model_name, str(version))


def read_server_version() -> str:
    """Return name and version of the server: TensorRT's engines are of one version."""
    with triton_http_client("say its version") as triton:
        metadata = triton.get_server_metadata()
    return f"{metadata['name']} {metadata['version']}"


def is_loaded(model: ServedModel) -> bool:
    """Return whether a version answers under the name by which it is served."""
    return _is_ready(model.entry, model.version)


def _is_ready(model_name: str, version: int) -> bool:
    with triton_http_client(f"ask whether {model_name} version {version} is ready") as triton:
        return bool(triton.is_model_ready(model_name, str(version)))


def list_served_versions(model_name: str) -> list[ServedModel]:
    """Return the versions of a model that answer requests now, oldest first; empty if it is not loaded.

    Raises:
        ServingError: Triton does not answer, or serves a model that was not deployed from here.
    """
    numbers = sorted(int(row["version"]) for row in _index(model_name) if row.get("state") == "READY")
    configs = []
    for number in numbers:
        try:
            configs.append((number, _config(model_name, number)))
        except ServingError:
            if _is_ready(model_name, number):  # else it was dropped a moment ago
                raise
    return _described(
        model_name, lambda: [triton_config.read_served_model(config, number) for number, config in configs]
    )


def _described(model_name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise ServingError(f"Triton serves a {model_name} that was not deployed from here: {error}") from error


@retried_step
def first_ready_version(model_name: str, *versions: int) -> ServedModel:
    """Return the first of these versions that answers requests now on any server, under the model's own name or aside.

    If none does, this is the champion in Triton: in the moment of a rollout Triton is ahead of the registry.

    Raises:
        ServingError: The model is not served; a version that is loaded aside then is for the runs that hold it.
    """
    served = call_on_each(live_servers(), lambda: read_snapshot.fn(model_name))
    serving = [server for server, snapshot in served.items() if snapshot.versions]
    for version in versions:
        for found in call_on_each(serving, partial(_find_ready, model_name, version)).values():
            if found:
                return found
    for snapshot in served.values():
        if snapshot.champion_model:
            return snapshot.champion_model
    raise ServingError(
        f"expected Triton to serve {model_name} version {versions[-1]}, found no version. "
        f"Run deploy-model/gpu with model_name {model_name!r} and version {versions[-1]}."
    )


def _find_ready(model_name: str, version: int) -> ServedModel | None:
    for entry in list_names(model_name, version):
        for model in list_served_versions(entry):
            if model.version == version and model.until > time.time():
                return model
    return None


def request_stats(model: ServedModel) -> RequestStats:
    """Return the requests to a version that Triton has counted since it loaded the version."""
    with triton_http_client(f"count the requests to {model.name} version {model.version}") as triton:
        statistics = triton.get_inference_statistics(model.entry, str(model.version))
    rows = [row["inference_stats"] for row in statistics["model_stats"]]
    return RequestStats(
        answered=sum(int(row.get("success", {}).get("count", 0)) for row in rows),
        failed=sum(int(row.get("fail", {}).get("count", 0)) for row in rows),
        milliseconds=sum(int(row.get("success", {}).get("ns", 0)) for row in rows) / 1e6,
    )


@retried_step
def unload(model_name: str, timeout_s: float = 60.0) -> None:
    """Stop serving every version of a model; returns when Triton has unloaded it. Does nothing if none is loaded.

    Requests that Triton has already taken are answered.

    Raises:
        ServingError: It is still loaded after `timeout_s`.
    """
    with triton_http_client(f"unload {model_name}") as triton:
        triton.unload_model(model_name, headers=access_key_header())
    deadline = time.monotonic() + timeout_s
    while any(row.get("state") in {"READY", "LOADING", "UNLOADING"} for row in _index(model_name)):
        if time.monotonic() > deadline:
            raise ServingError(f"{model_name} is still loaded {timeout_s:g} s after it was unloaded: see Triton's log")
        time.sleep(POLL_INTERVAL_S)


def list_ready_versions() -> dict[str, set[int]]:
    """Return the versions that answer requests on any server, by model: champions, and those kept for runs.

    Raises:
        StudioError: No Triton answers.
    """
    ready: dict[str, set[int]] = {}
    purpose = "list the versions that it serves"
    for row in chain.from_iterable(call_on_each(live_servers(), lambda: _repository_index(purpose)).values()):
        if row.get("state") == "READY" and (not is_aside(row["name"]) or kept_version(row["name"])):
            ready.setdefault(model_name_of(row["name"]), set()).add(int(row["version"]))
    return ready


def list_candidates(model_name: str) -> list[ServedModel]:
    """Return the versions of a model that are candidates on any server.

    Raises:
        StudioError: No Triton answers.
    """
    found = call_on_each(live_servers(), lambda: list_served_versions(candidate_name(model_name)))
    return list(chain.from_iterable(found.values()))


def _index(model_name: str) -> list[dict[str, str]]:
    rows = _repository_index(f"list the versions of {model_name}")
    return [row for row in rows if row["name"] == model_name]


def _repository_index(purpose: str) -> list[dict[str, str]]:
    with triton_http_client(purpose) as triton:
        rows: list[dict[str, str]] = triton.get_model_repository_index(headers=access_key_header())
    return [row for row in rows if "version" in row]
