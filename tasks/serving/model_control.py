"""The control plane of Triton: what is loaded, and whether it answers."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.orchestration.step import retried_step, step
from tasks.parameters import ServingParams
from tasks.serving import triton_config
from tasks.serving.canary_rules import RequestStats
from tasks.serving.http_client import ServingError, access_key_header, triton_http_client
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_names import list_names

POLL_INTERVAL_S = 0.2
RELOAD_DELAY_S = 1.0  # after a load that failed, Triton is still putting away what it had made ready


def build_config(versions: Sequence[ServedModel], serving: ServingParams, champion: int | None) -> dict[str, Any]:
    """The config by which this server serves exactly these versions; raises ServingError where it cannot."""
    try:
        return triton_config.model_config(versions, serving, champion, _version())
    except ValueError as error:
        raise ServingError(str(error)) from error


@step
def load_versions(
    model_name: str, versions: Sequence[ServedModel], serving: ServingParams, champion: int | None = None
) -> None:
    """Serve exactly these versions of a model; returns when Triton has loaded them.

    Requests go on being answered while it loads, and from one moment to the next by these versions. Raises ServingError
    with Triton's own reason where a version does not load: Triton then serves what it served before. A version that may
    not load is tried aside first (`load_aside`): alone under its name it did not bring Triton down in 170 refusals.
    """
    config = build_config(versions, serving, champion)
    if config["name"] != model_name:
        raise ValueError(f"expected versions of {model_name!r}, found versions of {config['name']!r}")
    _load_whole(config, serving.load_timeout_s)


def _load_whole(config: Mapping[str, Any], timeout_s: float) -> None:
    name, versions = config["name"], triton_config.config_versions(config)
    numbers = ", ".join(map(str, versions))
    _load(config, f"load {name} (versions {numbers})", timeout_s)
    # Triton calls a load a success that passed over a version without a folder.
    absent = [version for version in versions if not _is_ready(name, version)]
    if absent:
        raise ServingError(
            f"expected Triton to load versions {numbers} of {name}, found no {absent} in its repository: "
            f"is s3://models/{name}/VERSION/ there, with model.py and model.onnx? Deploy that version again."
        )


@step
def load_aside(model: ServedModel, serving: ServingParams, until: float | None = None) -> None:
    """Serve a version under its name aside, for those who name the version: until then, in seconds since 1970.

    Returns when it answers. Raises ServingError where it does not load.
    """
    config = build_config([model], serving, triton_config.NO_DEFAULT_VERSION)
    _load_whole(config if until is None else triton_config.list_kept_versions(config, until), serving.load_timeout_s)


@retried_step
def serve_alone(model: ServedModel, serving: ServingParams) -> None:
    """Serve this version and no other, as the champion; does nothing where that is so.

    A Triton that is being started anew is waited for: its config.pbtxt may have been the one before.
    """
    found = read_snapshot.fn(model.name)
    if found.versions != (model,) or found.champion != model.version:
        load_versions.fn(model.name, [model], serving, model.version)


@dataclass(frozen=True)
class Snapshot:
    """What is served of a model: its versions, oldest first, the one that clients get, and the config as Triton has it.

    The config is None where nothing is.
    """

    model_name: str
    versions: tuple[ServedModel, ...]
    champion: int | None
    config: Mapping[str, Any] | None

    @property
    def champion_model(self) -> ServedModel | None:
        """The version that clients get, where one is served; the newest where the config does not say."""
        if self.champion is None:
            return max(self.versions, key=lambda model: model.version, default=None)
        return next((model for model in self.versions if model.version == self.champion), None)


@step
def read_snapshot(model_name: str) -> Snapshot:
    """What is served of a model now."""
    versions = _list_served(model_name)
    if not versions:
        return Snapshot(model_name, (), None, None)
    with triton_http_client(f"read what is served of {model_name}") as triton:
        config = triton.get_model_config(model_name, str(versions[-1].version))
    return Snapshot(model_name, tuple(versions), triton_config.read_champion_version(config), config)


def current_serving_params(model_name: str) -> ServingParams:
    """How the versions of a model are run now; the defaults where none is."""
    config = read_snapshot(model_name).config
    return triton_config.read_serving_params(config) if config else ServingParams()


@step
def restore(before: Snapshot, timeout_s: float) -> None:
    """Serve exactly what was served when the snapshot was taken; does nothing where that is so still.

    A Triton that has refused one of several versions serves what it served, but 2.51 went down with a segmentation
    fault a moment later in 1 of 40 times: what is served is asked after that moment.
    """
    time.sleep(RELOAD_DELAY_S)
    deadline = time.monotonic() + timeout_s
    while any(row.get("state") == "LOADING" for row in _index(before.model_name)) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)  # what nobody waited for to its end
    if read_snapshot.fn(before.model_name) == before:
        return
    if before.config is None:
        unload.fn(before.model_name)
        return
    _load(before.config, f"load {before.model_name} as it was", timeout_s)


def _load(config: Mapping[str, Any], purpose: str, timeout_s: float) -> None:
    with triton_http_client(purpose, timeout_s) as triton:
        triton.load_model(config["name"], headers=access_key_header(), config=triton_config.config_json(config))


def _version() -> str:
    """Which software answers: engines that TensorRT made for another are not for it."""
    with triton_http_client("say its version") as triton:
        found = triton.get_server_metadata()
    return f"{found['name']} {found['version']}"


def _is_ready(model_name: str, version: int) -> bool:
    with triton_http_client(f"ask whether {model_name} version {version} is ready") as triton:
        return bool(triton.is_model_ready(model_name, str(version)))


@step
def list_served_versions(model_name: str) -> list[ServedModel]:
    """The versions of a model that answer requests now, oldest first; empty where it is not loaded."""
    return _list_served(model_name)


def _list_served(model_name: str) -> list[ServedModel]:
    numbers = sorted(int(row["version"]) for row in _index(model_name) if row.get("state") == "READY")
    configs = []
    for number in numbers:
        try:
            with triton_http_client(f"read what is served of {model_name}") as triton:
                configs.append((number, triton.get_model_config(model_name, str(number))))
        except ServingError:
            if _is_ready(model_name, number):  # else it was dropped a moment ago
                raise
    try:
        return [triton_config.read_served_model(config, number) for number, config in configs]
    except ValueError as error:
        raise ServingError(f"Triton serves a {model_name} that was not deployed from here: {error}") from error


@retried_step
def first_ready_version(model_name: str, *versions: int) -> ServedModel:
    """The first of these versions that answers requests now, under the model's own name or aside.

    Where none does, what every other client gets: in the moment of a roll-out Triton is ahead of the registry. Raises
    ServingError where the model is not served: what is still loaded aside then is for those who use it already.
    """
    found = read_snapshot.fn(model_name)
    for version in versions if found.versions else ():
        for entry in list_names(model_name, version):
            for model in _list_served(entry):
                if model.version == version and model.until > time.time():
                    return model
    if found.champion_model:
        return found.champion_model
    raise ServingError(
        f"expected Triton to serve {model_name} version {versions[-1]}, found no version. "
        f"Run deploy-model/gpu with model_name {model_name!r} and version {versions[-1]}."
    )


def request_stats(model: ServedModel) -> RequestStats:
    """What Triton has counted of the requests to a version since it was loaded."""
    with triton_http_client(f"count the requests to {model.name} version {model.version}") as triton:
        statistics = triton.get_inference_statistics(model.entry, str(model.version))
    counted = [row["inference_stats"] for row in statistics["model_stats"]]
    answered, failed = ([row.get(kind, {}) for row in counted] for kind in ("success", "fail"))
    return RequestStats(
        answered=sum(int(row.get("count", 0)) for row in answered),
        failed=sum(int(row.get("count", 0)) for row in failed),
        milliseconds=sum(int(row.get("ns", 0)) for row in answered) / 1e6,
    )


@retried_step
def unload(model_name: str, timeout_s: float = 60.0) -> None:
    """Stop serving every version of a model; returns when Triton has let go of it. Does nothing where none is loaded.

    Requests that Triton has already taken are answered. Raises ServingError after `timeout_s`.
    """
    with triton_http_client(f"unload {model_name}") as triton:
        triton.unload_model(model_name, headers=access_key_header())
    deadline = time.monotonic() + timeout_s
    while any(row.get("state") in {"READY", "LOADING", "UNLOADING"} for row in _index(model_name)):
        if time.monotonic() > deadline:
            raise ServingError(f"{model_name} is still loaded {timeout_s:g} s after it was unloaded: see Triton's log")
        time.sleep(POLL_INTERVAL_S)


def _index(model_name: str) -> list[dict[str, str]]:
    with triton_http_client(f"list the versions of {model_name}") as triton:
        rows: list[dict[str, str]] = triton.get_model_repository_index(headers=access_key_header())
    return [row for row in rows if row["name"] == model_name and "version" in row]
