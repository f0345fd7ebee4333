"""The champions of a model, when and how each was served: the alias, and tags of model and versions."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

# Imported now, not late as elsewhere: a rollback has no seconds for it once it is Running.
from mlflow import MlflowClient  # noqa: F401

from tasks.orchestration.step import retried_step, step
from tasks.parameters import ServingParams
from tasks.tracking.champion_history import dump_history, history_without, parse_history
from tasks.tracking.mlflow_client import TrackingError, best_effort, logger, tracking_errors
from tasks.tracking.registered_models import CHALLENGER, CHAMPION

HISTORY_TAG = "champions"
ROLLOUT_TAG = "rollout"
SINCE_TAG = "champion_since"
UNTIL_TAG = "champion_until"
SERVED_AS_TAG = "served_as"


@dataclass(frozen=True, kw_only=True)
class AnnouncedRollout:
    """The version that a flow run is about to make the champion (0: none), and the history with it.

    `former` is the champion before, `announced_at` in seconds since 1970. It is written before clients get the version,
    so that the next rollout knows what a killed one was doing.
    """

    version: int
    flow_run_id: str
    history: list[int]
    former: int | None
    announced_at: float


@retried_step
def find_chosen_version(model_name: str, flow_run_id: str, first_start: float | None) -> int | None:
    """Return the version that this flow run chose in an earlier attempt, if any.

    `first_start` is when the first attempt began; None in that attempt.

    Raises:
        TrackingError: Another flow run has changed the served versions since then.
    """
    if first_start is None:
        return None
    with tracking_errors(f"reading the last rollout of {model_name}") as mlflow:
        announced = _announced(mlflow.get_registered_model(model_name).tags)
    if announced and announced.flow_run_id == flow_run_id:
        return announced.version
    if announced and announced.announced_at > first_start:
        raise TrackingError(
            f"Expected that nobody has changed what is served of {model_name!r} since this run began first, found flow "
            f"run {announced.flow_run_id}. Start a new run if that is still to be done."
        )
    return None


@retried_step
def champion_history(model_name: str, served: int | None = None) -> list[int]:
    """Return the champions of a model, the present one last; empty if none was deployed yet.

    `served` is the champion in Triton: if a rollout was killed before it moved the alias, the alias is moved now.
    """
    with tracking_errors(f"reading the champions of {model_name}") as mlflow:
        model = mlflow.get_registered_model(model_name)
    champion = _champion_version(model.aliases)
    announced = _announced(model.tags)
    if announced and announced.version == served and champion in {announced.version, announced.former}:
        if champion != served:
            set_champion.fn(model_name, announced.version, announced.history)
        return announced.history
    return parse_history(model.tags.get(HISTORY_TAG), champion)


def _champion_version(aliases: Mapping[str, str]) -> int | None:
    return int(aliases[CHAMPION]) if CHAMPION in aliases else None


def _announced(tags: Mapping[str, str]) -> AnnouncedRollout | None:
    try:
        return AnnouncedRollout(**json.loads(tags[ROLLOUT_TAG])) if ROLLOUT_TAG in tags else None
    except (ValueError, TypeError):  # a tag of somebody else
        logger().warning("tag %r is no rollout of ours: %r", ROLLOUT_TAG, tags[ROLLOUT_TAG])
        return None


def rollback_target(model_name: str, history: Sequence[int], version: int | None) -> int:
    """Return the champion to go back to: `version`, or the one before the present one.

    Raises:
        TrackingError: It never was champion, so nobody has compared it with its weights.
    """
    target = version if version is not None else next(iter(history[-2:-1]), None)
    if target is not None and target in history:
        return target
    found = f"that only {', '.join(map(str, history))} was" if history else "that none was deployed yet"
    raise TrackingError(
        f"Expected a version of {model_name!r} that was champion before, found {found}. Run deploy-model/gpu "
        f"with version {target or 'N'}, which compares it with its weights first."
    )


@retried_step
def announce_champion(model_name: str, version: int, flow_run_id: str, history: Sequence[int]) -> None:
    """Write which version is about to be the champion (0: none); `history` are the champions with it."""
    with tracking_errors(f"announcing the rollout of {model_name} version {version}") as mlflow:
        announced = AnnouncedRollout(
            version=version,
            flow_run_id=flow_run_id,
            history=json.loads(dump_history(history)),
            former=_champion_version(mlflow.get_registered_model(model_name).aliases),
            announced_at=time.time(),
        )
        mlflow.set_registered_model_tag(model_name, ROLLOUT_TAG, json.dumps(asdict(announced)))


@retried_step
def set_champion(model_name: str, version: int, history: Sequence[int]) -> None:
    """Move alias `champion` to a version and remove alias `challenger` from it; `history` are the champions with it.

    Clients have this version already, so the alias comes first; it corrects the history if the run is killed after it.
    """
    with tracking_errors(f"pointing {model_name}@{CHAMPION} at version {version}") as mlflow:
        try:
            mlflow.set_registered_model_alias(model_name, CHAMPION, str(version))
        except Exception:  # the answer may have been lost
            if mlflow.get_registered_model(model_name).aliases.get(CHAMPION) != str(version):
                raise
    with best_effort(f"that {model_name} version {version} is the champion"):
        mlflow.set_registered_model_tag(model_name, HISTORY_TAG, dump_history(history))
        if mlflow.get_registered_model(model_name).aliases.get(CHALLENGER) == str(version):
            mlflow.delete_registered_model_alias(model_name, CHALLENGER)


def champions_of(tags: Mapping[str, str]) -> set[int]:
    """Return the versions that a model's tags name as champion: those before, and one that is about to be."""
    announced = _announced(tags)
    coming = [*announced.history, announced.version] if announced else []
    return {*parse_history(tags.get(HISTORY_TAG), None), *coming}


@retried_step
def forget_champion(model_name: str, version: int) -> None:
    """Take a version that is being deleted out of the champions to which a model can go back."""
    with tracking_errors(f"taking version {version} out of the champions of {model_name}") as mlflow:
        tags = mlflow.get_registered_model(model_name).tags
        announced = _announced(tags)
        if announced and version in announced.history:
            left = replace(announced, history=history_without(announced.history, version))
            mlflow.set_registered_model_tag(model_name, ROLLOUT_TAG, json.dumps(asdict(left)))
        history = parse_history(tags.get(HISTORY_TAG), None)
        if version in history:
            mlflow.set_registered_model_tag(model_name, HISTORY_TAG, dump_history(history_without(history, version)))


@step
def tag_champion_dates(model_name: str, former: int | None, version: int, serving: ServingParams) -> None:
    """Tag both versions with the date of the change, and the new one with how it is served; never raises."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    gates = {"parity", "canary", "approval", "approval_timeout_h"}  # that a rollback does not go through
    with best_effort("who was champion when") as mlflow:
        served_as = serving.model_dump_json(exclude=gates)
        mlflow.set_model_version_tag(model_name, str(version), SERVED_AS_TAG, served_as)
        if former != version:
            mlflow.set_model_version_tag(model_name, str(version), SINCE_TAG, now)
            mlflow.delete_model_version_tag(model_name, str(version), UNTIL_TAG)
        if former not in {None, version}:
            mlflow.set_model_version_tag(model_name, str(former), UNTIL_TAG, now)


@retried_step
def serving_params_of(model_name: str, version: int) -> ServingParams | None:
    """Return how a version was served when it was champion; None without that tag."""
    with tracking_errors(f"reading how {model_name} version {version} was served") as mlflow:
        tag = mlflow.get_model_version(model_name, str(version)).tags.get(SERVED_AS_TAG)
    return ServingParams.model_validate_json(tag) if tag else None
