"""Versions that are served aside, on every server that answers, as long as runs of inference use them."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from prefect import get_run_logger
from prefect.context import FlowRunContext

from tasks.errors import StudioError
from tasks.orchestration.step import retried_step
from tasks.parameters import ServingParams
from tasks.serving import model_control
from tasks.serving.model_repository import AsideVersions
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import call_on_each, live_servers
from tasks.serving.triton_names import kept_name, kept_version
from tasks.storage.leases import lease_holders


def keep_in_use(versions: Iterable[ServedModel], serving: ServingParams, *, for_good: bool = False) -> None:
    """Serve aside those of the versions that runs of inference use, for `drain_timeout_s` or for good.

    A run whose version is gone goes on with the champion, so an error here is logged and stops nothing.
    """
    until = None if for_good else time.time() + serving.drain_timeout_s
    for model in versions:
        with warn_on_error("runs of inference that hold an old version go on with the champion"):
            if lease_holders(model.name).get(model.version):
                kept = replace(model, aside=kept_name(model.name, model.version))
                AsideVersions(model.name).copy(model.version, kept.entry)
                call_on_each(live_servers(), partial(model_control.load_aside, kept, serving, until))


def unload_unused(model_name: str) -> None:
    """Unload the versions that are served aside and that no run of inference uses any more."""
    with warn_on_error("versions that nobody holds stay aside until the next run"):
        kept = {entry: version for entry in AsideVersions(model_name).names() if (version := kept_version(entry))}
        holders = lease_holders(model_name) if kept else {}
        for entry, version in kept.items():
            if not holders.get(version):
                unload_aside(model_name, entry)


@retried_step
def unload_leftovers(model_name: str) -> None:
    """Unload the versions that a killed rollout left aside; the caller holds the lock of the model."""
    for entry in AsideVersions(model_name).names():
        if kept_version(entry) is None:
            unload_aside(model_name, entry)
    unload_unused(model_name)


def unload_aside(model_name: str, entry: str) -> None:
    """Unload the version that is served aside under a name, and remove its files."""
    call_on_each(live_servers(), lambda: model_control.unload.fn(entry))
    AsideVersions(model_name).remove(entry)  # last: by the files the next rollout knows what may still be loaded


@contextmanager
def warn_on_error(consequence: str) -> Iterator[None]:
    """Log an error of the block that a person can act on, with its consequence, and go on."""
    try:
        yield
    except StudioError as error:
        log = get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)
        log.warning("%s: %s", consequence, error)
