"""From the version that is served to another: either the new one is the champion, or all is as it was.

The model's own name in Triton is for the champion, which is the version that a client gets who names none. What else is
needed for a while is served aside (`triton_names`): a candidate, and versions that runs of inference hold.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from prefect import get_run_logger
from prefect.context import FlowRunContext

from tasks.errors import StudioError, Superseded
from tasks.orchestration.signals import defer_cancellation
from tasks.parameters import ServingParams
from tasks.serving import grpc_client, model_control
from tasks.serving.http_client import ServingError
from tasks.serving.model_control import Snapshot
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import config_pbtxt, read_serving_params
from tasks.serving.triton_names import candidate_name, kept_name, kept_version

_NOT_BACK = "what was served before could not be brought back"

LeaseHolders = Callable[[str], Mapping[int, Sequence[str]]]  # of a model: the flow runs that hold a version, by version


class ConfigFile(Protocol):
    """What a Triton that starts anew serves of a model."""

    def read(self) -> str | None:
        """Return it as text; None where the model is not deployed."""

    def write(self, text: str | None) -> None:
        """Put a text in its place; None removes it."""


class Asides(Protocol):
    """Copies of versions of one model under other names, for Triton to load."""

    def copy(self, version: int, entry: str) -> None:
        """Copy a version to `entry`."""

    def names(self) -> list[str]:
        """Return the names under which something was put."""

    def remove(self, entry: str) -> None:
        """Remove what was put there."""


@dataclass(frozen=True)
class RolloutStore:
    """What a roll-out of a model touches besides Triton, and how it knows that it may.

    `users` names the flow runs that hold a version. `require_lock` raises Superseded where another run changes what is
    served of the model now.
    """

    config: ConfigFile
    asides: Asides
    users: LeaseHolders
    require_lock: Callable[[], None]


@dataclass
class ChampionChange:
    """What a roll-out tells the registry: who is about to be the champion, and who is; `done` says so here.

    `undo` takes back what was done for a version that does not get so far.
    """

    announce: Callable[[], None]
    crown: Callable[[], None]
    undo: Callable[[], None]
    done: bool = False


@contextmanager
def loaded_candidate(
    model: ServedModel, serving: ServingParams, places: RolloutStore, crowning: ChampionChange
) -> Iterator[ServedModel]:
    """Serve a version aside while the block lasts; gives it as it is to be asked there.

    Clients cannot get it unless they are told. Where the block fails, flow runs that hold it may finish on it.
    """
    candidate = replace(model, aside=candidate_name(model.name))
    try:
        places.asides.copy(model.version, candidate.entry)
        model_control.load_aside(candidate, serving)
        grpc_client.smoke_test(candidate)
        yield candidate
    except Superseded:
        raise  # what lies aside is the other process's to drop now
    except BaseException:
        _yield_to_cancellation(places)
        if not crowning.done:
            keep_in_use([model], serving, places)
        _forget(candidate, places)
        if not crowning.done:
            with _warn_on_error("what was written for this version stays"):
                crowning.undo()
        raise
    places.require_lock()
    _forget(candidate, places)


def _forget(candidate: ServedModel, places: RolloutStore) -> None:
    with _warn_on_error("what was tried stays aside until the next roll-out"):
        _drop(candidate.entry, places.asides)


def make_champion(
    model: ServedModel, serving: ServingParams, places: RolloutStore, crowning: ChampionChange
) -> list[ServedModel]:
    """Serve `model` under the model's own name, and make it the champion; returns those that still stand beside it.

    A client that names no version gets the champion before until Triton has loaded this one, and this one from then on.
    Whatever is raised leaves Triton and the config as they were.
    """
    before = model_control.read_snapshot(model.name)
    beside = _versions_beside(before, model, serving)
    leaving = [each for each in before.versions if each.version != model.version and each not in beside]
    if before.config is not None:
        keep_in_use(leaving, read_serving_params(before.config).model_copy(update=_patience(serving)), places)
    config = config_pbtxt(model_control.build_config([model], serving, model.version))
    with defer_cancellation(), _rollback_on_error(before, places, serving.load_timeout_s):
        places.require_lock()
        crowning.announce()
        places.require_lock()  # MLflow may have been away for minutes
        model_control.load_versions(model.name, [*beside, model], serving, model.version)
        # No more than these two calls lie between the moment of Triton and that of the registry.
        places.config.write(config)
        crowning.crown()
        crowning.done = True
    return beside


def unload_replaced(
    model: ServedModel, beside: Sequence[ServedModel], serving: ServingParams, places: RolloutStore
) -> None:
    """Have the champion alone under the model's own name; flow runs that hold another version may finish on it.

    Others who name an older version have had `drain_s` to look up who is champion now.
    """
    with _report_incomplete_cleanup(model):
        if beside:
            time.sleep(serving.drain_s)
            places.require_lock()
            keep_in_use(beside, serving, places)
        places.require_lock()
        model_control.serve_alone(model, serving)
        unload_unused(model.name, places.asides, places.users)


def undeploy(model_name: str, places: RolloutStore) -> None:
    """Serve a model no longer, from now on; flow runs that hold a version may finish on it, however long they take."""
    before = model_control.read_snapshot(model_name)
    if before.config is not None:
        keep_in_use(before.versions, read_serving_params(before.config), places, for_good=True)
    places.require_lock()
    places.config.write(None)
    model_control.unload(model_name)
    unload_unused(model_name, places.asides, places.users)


def keep_in_use(
    versions: Iterable[ServedModel], serving: ServingParams, places: RolloutStore, *, for_good: bool = False
) -> None:
    """Serve aside what flow runs hold of these versions, for `drain_timeout_s` or for good.

    A run whose version is gone goes on with the champion, so a fault here is logged and stops nothing.
    """
    until = None if for_good else time.time() + serving.drain_timeout_s
    with _warn_on_error("runs of inference that hold an old version go on with the champion"):
        for model in versions:
            if places.users(model.name).get(model.version):
                kept = replace(model, aside=kept_name(model.name, model.version))
                places.asides.copy(model.version, kept.entry)
                model_control.load_aside(kept, serving, until)


def unload_unused(model_name: str, asides: Asides, users: LeaseHolders) -> None:
    """Drop what is kept aside of a model and no flow run holds any more; each run does so that lets go of a version."""
    with _warn_on_error("versions that nobody holds stay aside until the next run"):
        kept = {entry: version for entry in asides.names() if (version := kept_version(entry))}
        held = users(model_name) if kept else {}
        for entry, version in kept.items():
            if not held.get(version):
                _drop(entry, asides)


def unload_leftovers(model_name: str, asides: Asides, users: LeaseHolders) -> None:
    """Drop what a roll-out left that was killed: to be called by who holds the lock of the model."""
    if candidate_name(model_name) in asides.names():
        _drop(candidate_name(model_name), asides)
    unload_unused(model_name, asides, users)


def _drop(entry: str, asides: Asides) -> None:
    """The files go last: they tell the next one what may be loaded still."""
    model_control.unload.fn(entry)
    asides.remove(entry)


def _patience(serving: ServingParams) -> dict[str, float]:
    return {"load_timeout_s": serving.load_timeout_s, "drain_timeout_s": serving.drain_timeout_s}


def _versions_beside(before: Snapshot, model: ServedModel, serving: ServingParams) -> list[ServedModel]:
    """Versions that can stay under the model's own name for a while, for those who name them.

    Only lower ones: of several, Triton gives the highest to a client that names none. And only where one config can be
    right for all; the backend onnxruntime fixes sizes in it, and keeps no engines for two versions.
    """
    if before.config is None:
        return []
    now = read_serving_params(before.config)
    fits = now.backend == serving.backend == "python" and now.max_batch_size <= serving.max_batch_size
    return [each for each in before.versions if fits and each.version < model.version]


@contextmanager
def _rollback_on_error(before: Snapshot, places: RolloutStore, timeout_s: float) -> Iterator[None]:
    """Serve exactly what was served when the block fails, however it does; the reason that counts is the first one."""
    written = places.config.read()
    try:
        yield
    except Superseded:
        raise  # what is served is the other process's to change now
    except BaseException:
        _yield_to_cancellation(places)
        get_run_logger().warning("going back to what was served before")
        with _warn_on_error(_NOT_BACK):
            places.config.write(written)
        with _warn_on_error(_NOT_BACK):
            model_control.restore(before, timeout_s)
        raise


def _yield_to_cancellation(places: RolloutStore) -> None:
    """Raise Superseded where another process has the lock; where the store does not say, tidying up goes on."""
    with _warn_on_error("whether another run works on this model now is not known"):
        places.require_lock()


@contextmanager
def _warn_on_error(otherwise: str) -> Iterator[None]:
    try:
        yield
    except StudioError as error:
        log = get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)
        log.warning("%s: %s", otherwise, error)


@contextmanager
def _report_incomplete_cleanup(model: ServedModel) -> Iterator[None]:
    try:
        yield
    except StudioError as error:
        raise ServingError(
            f"{model.name} version {model.version} is the champion now, but what was served before could not be put "
            f"away: {error} Run deploy-model/gpu with version {model.version}: it goes on from here."
        ) from error
