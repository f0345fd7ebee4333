"""A server that serves something else than what is deployed: it was away during a rollout, and still runs.

A server that starts anew loads what is deployed by itself. What is deployed is what the config.pbtxt of each model in
the repository says.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.serving import grpc_client, model_control
from tasks.serving.http_client import ServingError
from tasks.serving.model_repository import AsideVersions, ConfigFile, deployed_models
from tasks.serving.servers import call_on_each, current_server, live_servers
from tasks.serving.triton_config import config_versions, parse_config_pbtxt, read_champion_version, served_alike
from tasks.serving.triton_names import is_aside, model_name_of


def list_models_to_repair() -> list[str]:
    """Return the models that a server which answers does not serve as they are deployed.

    Raises:
        StudioError: The store does not answer, or a server stays silent in the middle.
    """
    deployed = deployed_models()
    loaded = call_on_each(live_servers(), model_control.list_loaded_names)
    names = {model_name_of(entry) for entries in loaded.values() for entry in entries}
    return [name for name in sorted({*deployed, *names}) if find_wrong_servers(name)]


def find_wrong_servers(model_name: str) -> list[str]:
    """Return the addresses of the servers that answer and do not serve a model as it is deployed."""
    wanted = _deployed_config(model_name)
    kept = AsideVersions(model_name).names()
    found = call_on_each(live_servers(), lambda: _is_right(model_name, wanted) and not _left_aside(model_name, kept))
    return [str(server) for server, is_right in found.items() if not is_right]


def repair_model(model_name: str) -> list[str]:
    """Have each server that answers serve a model as it is deployed; returns the addresses of those that did not.

    The caller holds the lock of the model. Requests are answered meanwhile.

    Raises:
        ServingError: A server does not load it, or does not answer with it.
    """
    wanted = _deployed_config(model_name)
    kept = AsideVersions(model_name).names()
    found = call_on_each(live_servers(), lambda: _repair(model_name, wanted, kept))
    return [str(server) for server, was_wrong in found.items() if was_wrong]


def _repair(model_name: str, wanted: Mapping[str, Any] | None, kept: Iterable[str]) -> bool:
    """Put this server right; returns whether there was anything to do."""
    leftovers = _left_aside(model_name, kept)
    for entry in leftovers:
        model_control.unload.fn(entry)
    if _is_right(model_name, wanted):
        return bool(leftovers)
    if wanted is None:
        model_control.unload.fn(model_name)
        return True
    model_control.load_deployed(model_name)
    if not _is_right(model_name, wanted):
        raise ServingError(
            f"expected the Triton at {current_server()} to serve {model_name} version {config_versions(wanted)} as "
            "its config.pbtxt says, found something else: do all servers of TRITON_TARGETS read the same bucket?"
        )
    champion = model_control.read_snapshot.fn(model_name).champion_model if _is_ours(wanted) else None
    if champion:
        grpc_client.smoke_test.fn(champion)
    return True


def _deployed_config(model_name: str) -> Mapping[str, Any] | None:
    text = ConfigFile(model_name).read()
    try:
        return None if text is None else parse_config_pbtxt(text)
    except ValueError as error:
        raise ServingError(f"{error}. Deploy {model_name} again, or remove that file from bucket models.") from error


def _is_right(model_name: str, wanted: Mapping[str, Any] | None) -> bool:
    """Whether this server serves the model as it is deployed; one that nobody has deployed from here is let alone."""
    served = model_control.read_config(model_name)
    if wanted is None:
        return served is None or not _is_ours(served)
    return served is not None and served_alike(served, wanted)


def _is_ours(config: Mapping[str, Any]) -> bool:
    try:
        read_champion_version(config)
    except ValueError:
        return False
    return True


def _left_aside(model_name: str, kept: Iterable[str]) -> list[str]:
    """The names aside of a model that this server has loaded, and of which the repository has no files any more."""
    return [
        entry
        for entry in model_control.list_loaded_names()
        if is_aside(entry) and model_name_of(entry) == model_name and entry not in set(kept)
    ]
