"""The model and version for a request, by the configuration that this server serves."""

import http.client
import json
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import PredictError, Reason
from .task_outputs import OUTPUTS

CACHE_S = 1.0
TIMEOUT_S = 5.0
# A name becomes part of an address, so other names are never looked up.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class ServedModel(NamedTuple):
    """One version of a model: pictures go in at `image_size` x `image_size` pixels.

    `thresholds` are confidences by class name; None if none were kept with the version when it was deployed.
    """

    name: str
    version: int
    task: str
    image_size: int
    class_names: tuple[str, ...]
    thresholds: Mapping[str, float] | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs of its task."""
        return tuple(OUTPUTS[self.task])


class ServedModels:
    """The models of the Triton at `address` (host:port of its HTTP endpoint)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._known: dict[str, tuple[float, dict[str, Any]]] = {}

    def find(self, name: str, version: int | None, *, fresh: bool = False) -> ServedModel:
        """Return that version, without one the champion, without that the newest that is served.

        The configuration is read at most once in `CACHE_S`, unless `fresh` or the version is not in it.

        Raises:
            PredictError: There is no such model or version.
        """
        if not _NAME.fullmatch(name):
            raise PredictError(
                "expected a model name of up to 63 letters, digits, '_' and '-' as parameter `model`, found "
                f"{name[:80]!r}: name a model that deploy-model has deployed"
            )
        try:
            return _choose(name, version, self._config(name, fresh=fresh))
        except PredictError:
            if fresh:
                raise
        # It may have been deployed since.
        return _choose(name, version, self._config(name, fresh=True))

    def _config(self, name: str, *, fresh: bool) -> dict[str, Any]:
        read_at, config = self._known.get(name, (0.0, {}))
        if fresh or time.monotonic() - read_at > CACHE_S or not config:
            config = self._read(name)
            self._known[name] = (time.monotonic(), config)
        return config

    def _read(self, name: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)
        try:
            connection.request("GET", f"/v2/models/{name}/config")
            answer = connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PredictError(
                f"expected Triton's HTTP endpoint at {self._address} (TRITON_HTTP_URL) to say what it serves, found "
                f"{error!r}: set TRITON_HTTP_URL for tritonserver to its own address",
                Reason.UNAVAILABLE,
            ) from error
        finally:
            connection.close()
        if answer.status != http.client.OK or not isinstance(body, dict):
            raise PredictError(
                f"expected a model that is served, found none named {name!r}: deploy it with deploy-model, or correct "
                "the name",
                Reason.NOT_FOUND,
            )
        return body


def _choose(name: str, version: int | None, config: Mapping[str, Any]) -> ServedModel:
    versions = [int(number) for number in config.get("version_policy", {}).get("specific", {}).get("versions", [])]
    champion = _parameter(config, "champion")
    if version is None:
        version = int(champion) if champion.isdecimal() else max(versions, default=0)
    if not version:
        raise PredictError(
            f"expected {name!r} to have a version for clients that name none, found that it has been taken out of use: "
            f"deploy it, or ask for one of {versions} as `version`",
            Reason.NOT_FOUND,
        )
    if version not in versions:
        raise PredictError(
            f"expected a served version of {name!r}, found version {version}: ask for one of {versions}, or leave "
            "`version` out",
            Reason.NOT_FOUND,
        )
    return _to_served_model(name, version, config)


def _to_served_model(name: str, version: int, config: Mapping[str, Any]) -> ServedModel:
    task = _parameter(config, f"task.{version}")
    size = _parameter(config, f"image_size.{version}")
    if task not in OUTPUTS or not size.isdecimal():
        raise PredictError(
            f"expected a model of task {', '.join(OUTPUTS)} that deploy-model has deployed, found {name!r} version "
            f"{version} with task {task!r} and image size {size!r}: deploy it with deploy-model",
            Reason.NOT_FOUND,
        )
    names = json.loads(_parameter(config, f"class_names.{version}") or "[]")
    thresholds = json.loads(_parameter(config, f"thresholds.{version}") or "null")
    return ServedModel(name, version, task, int(size), tuple(map(str, names)), thresholds)


def _parameter(config: Mapping[str, Any], key: str) -> str:
    value: str = config.get("parameters", {}).get(key, {}).get("string_value", "")
    return value
