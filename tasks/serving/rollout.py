"""From the version that is served to another: either the new one is the champion, or all is as it was."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from prefect import get_run_logger

from tasks.core.errors import StudioError, Superseded
from tasks.core.parameters import ServingParams
from tasks.core.served import ServedModel
from tasks.core.triton_config import NOBODY, config_pbtxt, serving_params
from tasks.serving import asking, control
from tasks.serving.connection import ServingError
from tasks.serving.control import Snapshot
from tasks.serving.usage import Users


class ConfigFile(Protocol):
    """What a Triton that starts anew serves of a model."""

    def read(self) -> str | None:
        """Return it as text; None where the model is not deployed."""

    def write(self, text: str | None) -> None:
        """Put a text in its place; None removes it."""


@dataclass(frozen=True)
class Change:
    """What a roll-out does elsewhere.

    `verify` is told what was served before and has its say while both versions answer. `crown` names the new champion:
    the point of no return. `undo` takes back what was done for the new version alone. `users` names the flow runs that
    hold a version.
    """

    config: ConfigFile
    verify: Callable[[Snapshot], None]
    crown: Callable[[], None]
    undo: Callable[[], None]
    users: Users


def roll_out(model: ServedModel, serving: ServingParams, change: Change) -> list[ServedModel]:
    """Serve `model`, and make it the version that clients get; returns the old ones that are still in use.

    Until `change.crown` has returned, live clients get the old version, and whatever is raised leaves Triton and
    `change.config` as they were. Raises ServingError where the present champion would be served in another way before
    anybody has compared it.
    """
    before = control.snapshot(model.name)
    _require_same_way(before, model, serving)
    others = [version for version in before.versions if version.version != model.version]
    both = [*others, model]
    champion = before.champion_model.version if before.champion_model else NOBODY
    with _or_as_it_was(before, change, serving.load_timeout_s):
        control.load_versions(model.name, both, serving, champion)
        control.wait_until_ready(model.name, model.version, serving.load_timeout_s)
        asking.smoke_test(model)
        change.verify(before)
        asking.smoke_test(model)  # a Triton that was restarted meanwhile serves the old version alone
        change.config.write(config_pbtxt(control.config_of(both, serving, model.version)))
        change.crown()
    with _said_what_is_left(model):
        control.load_versions(model.name, both, serving, model.version)
        used = control.drain(others, serving, change.users)
        change.config.write(config_pbtxt(control.config_of([*used, model], serving, model.version)))
        control.load_versions(model.name, [*used, model], serving, model.version)
    return used


def take_out(model_name: str, config: ConfigFile, users: Users) -> None:
    """Serve a model no longer: live clients are refused at once, those who name a version are waited for.

    Runs that hold a version are waited for however long they take, and a Triton that is started anew meanwhile serves
    them, too. Any other client who is still at it after `drain_timeout_s` is not: Triton answers the requests that it
    has taken.
    """
    before = control.snapshot(model_name)
    if before.config is not None:
        serving = serving_params(before.config)
        config.write(config_pbtxt(control.config_of(before.versions, serving, NOBODY)))
        control.take_from_clients(before, serving.load_timeout_s)
        control.drain(before.versions, serving, users, however_long=True)
    config.write(None)
    control.unload(model_name)


def _require_same_way(before: Snapshot, model: ServedModel, serving: ServingParams) -> None:
    """Versions that are loaded share backend and largest batch, and the champion cannot stand beside itself."""
    if before.config is None:
        return
    now, champion = serving_params(before.config), before.champion_model
    changed = ["backend"] if now.backend != serving.backend else []
    if serving.max_batch_size < now.max_batch_size:
        changed.append("max_batch_size")
    if champion and champion.version == model.version and champion.precision != model.precision:
        changed.append("precision")
    if changed:
        was = ", ".join(f"{name} {getattr(champion if name == 'precision' else now, name)}" for name in changed)
        raise ServingError(
            f"Expected {model.name} to be served as it is now ({was}), because version "
            f"{champion.version if champion else before.versions[-1].version} answers until the new one is compared; "
            f"found another choice. Run undeploy-model/gpu first, or leave serving.{changed[0]} as it is."
        )


@contextmanager
def _or_as_it_was(before: Snapshot, change: Change, timeout_s: float) -> Iterator[None]:
    """Serve exactly what was served when the block fails, however it does; the reason that counts is the first one."""
    written = change.config.read()
    try:
        yield
    except Superseded:
        raise  # what is served is the other process's to change now
    except BaseException:
        get_run_logger().warning("going back to what was served before")
        back = [_done(lambda: change.config.write(written)), _done(lambda: control.restore(before, timeout_s))]
        if all(back):
            _done(change.undo)
        raise


def _done(step: Callable[[], object]) -> bool:
    try:
        step()
    except StudioError as error:
        get_run_logger().error("what was served before could not be brought back: %s", error)
        return False
    return True


@contextmanager
def _said_what_is_left(model: ServedModel) -> Iterator[None]:
    try:
        yield
    except StudioError as error:
        raise ServingError(
            f"{model.name} version {model.version} is the champion now, but what was served before could not be put "
            f"away: {error} Run deploy-model/gpu with version {model.version}: it goes on from here."
        ) from error
