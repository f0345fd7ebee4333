"""Who is champion, who was before, since when, and how each was served: the alias, and tags of model and versions."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

# Elsewhere it is imported late. A roll-back has no seconds for it once it is Running.
from mlflow import MlflowClient  # noqa: F401

from tasks.orchestration.step import retried_step, step
from tasks.parameters import ServingParams
from tasks.tracking.champion_history import dump_history, parse_history
from tasks.tracking.mlflow_client import TrackingError, best_effort, client, logger, mlflow_errors_as_tracking_error
from tasks.tracking.registry import CHALLENGER, CHAMPION

LINE, CHOSEN = "champions", "rollout"
SINCE, UNTIL, SERVED_AS = "champion_since", "champion_until", "served_as"


@dataclass(frozen=True)
class AnnouncedRollout:
    """The version that a flow run is about to make the champion (0: none), the line of champions with it, who was
    champion before, and when that was, in seconds since 1970.

    It is written down before clients get the version: who comes after a run that was killed knows what it was at.
    """

    version: int
    flow_run_id: str
    line: list[int]
    before: int | None
    at: float


@retried_step
def find_chosen_version(model_name: str, flow_run_id: str, began: float | None) -> int | None:
    """The version that this flow run chose in an earlier attempt, if it did.

    `began` is when that attempt began, None in the first one. Raises TrackingError where another flow run has changed
    what is served since: nobody wants any more what this one was to do.
    """
    if began is None:
        return None
    with mlflow_errors_as_tracking_error(f"reading what was rolled out of {model_name}"):
        chosen = _chosen(client().get_registered_model(model_name).tags)
    if chosen and chosen.flow_run_id == flow_run_id:
        return chosen.version
    if chosen and chosen.at > began:
        raise TrackingError(
            f"Expected that nobody has changed what is served of {model_name!r} since this run began first, found flow "
            f"run {chosen.flow_run_id}. Start a new run if that is still to be done."
        )
    return None


@retried_step
def champion_history(model_name: str, served: int | None = None) -> list[int]:
    """The champions of a model, the present one last; empty where none was deployed yet.

    `served` is the version that clients get from Triton. Where a roll-out was killed between that and the alias, the
    alias follows now.
    """
    with mlflow_errors_as_tracking_error(f"reading the champions of {model_name}"):
        model = client().get_registered_model(model_name)
    champion, chosen = _champion(model.aliases), _chosen(model.tags)
    if chosen and chosen.version == served and champion in {chosen.version, chosen.before}:
        if champion != served:
            _set_champion(model_name, chosen.version, chosen.line)
        return chosen.line
    return parse_history(model.tags.get(LINE), champion)


def _champion(aliases: Mapping[str, str]) -> int | None:
    return int(aliases[CHAMPION]) if CHAMPION in aliases else None


def _chosen(tags: Mapping[str, str]) -> AnnouncedRollout | None:
    try:
        return AnnouncedRollout(**json.loads(tags[CHOSEN])) if CHOSEN in tags else None
    except (ValueError, TypeError):  # somebody else's tag
        logger().warning("tag %r is no roll-out of ours: %r", CHOSEN, tags[CHOSEN])
        return None


def rollback_target(model_name: str, line: Sequence[int], version: int | None) -> int:
    """The champion to go back to: `version`, or the one before the present one.

    Raises TrackingError where that never was champion: nobody has compared it with its weights.
    """
    wanted = version if version is not None else next(iter(line[-2:-1]), None)
    if wanted is not None and wanted in line:
        return wanted
    found = f"the champions {list(line)}" if line else "that none was deployed yet"
    raise TrackingError(
        f"Expected a version of {model_name!r} that was champion before, found {found}. Run deploy-model/gpu "
        f"with version {wanted or 'N'}, which compares it with its weights first."
    )


@retried_step
def announce_champion(model_name: str, version: int, flow_run_id: str, line: Sequence[int]) -> None:
    """Write down who is about to be the champion (0: nobody any more); `line` is the line of champions with it."""
    mlflow = client()
    with mlflow_errors_as_tracking_error(f"writing down that {model_name} version {version} is rolled out"):
        before = _champion(mlflow.get_registered_model(model_name).aliases)
        chosen = AnnouncedRollout(version, flow_run_id, json.loads(dump_history(line)), before, time.time())
        mlflow.set_registered_model_tag(model_name, CHOSEN, json.dumps(asdict(chosen)))


@retried_step
def set_champion(model_name: str, version: int, line: Sequence[int]) -> None:
    """Point alias `champion` at a version, which is the challenger no longer; `line` is the line of champions with it.

    The alias comes first, for clients get this version already; killed after it, it mends the line.
    """
    _set_champion(model_name, version, line)


def _set_champion(model_name: str, version: int, line: Sequence[int]) -> None:
    mlflow = client()
    with mlflow_errors_as_tracking_error(f"pointing {model_name}@{CHAMPION} at version {version}"):
        try:
            mlflow.set_registered_model_alias(model_name, CHAMPION, str(version))
        except Exception:  # an answer that was lost is no refusal
            if mlflow.get_registered_model(model_name).aliases.get(CHAMPION) != str(version):
                raise
    with best_effort(f"that {model_name} version {version} is the champion"):
        mlflow.set_registered_model_tag(model_name, LINE, dump_history(line))
        if mlflow.get_registered_model(model_name).aliases.get(CHALLENGER) == str(version):
            mlflow.delete_registered_model_alias(model_name, CHALLENGER)


@step
def tag_champion_dates(model_name: str, before: int | None, version: int, serving: ServingParams) -> None:
    """Say on both versions when one followed the other, and how the new one is served; never raises."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with best_effort("who was champion when"):
        mlflow = client()
        how = serving.model_dump_json(exclude={"parity", "canary"})
        mlflow.set_model_version_tag(model_name, str(version), SERVED_AS, how)
        if before != version:
            mlflow.set_model_version_tag(model_name, str(version), SINCE, now)
            mlflow.delete_model_version_tag(model_name, str(version), UNTIL)
        if before not in {None, version}:
            mlflow.set_model_version_tag(model_name, str(before), UNTIL, now)


def serving_params_of(model_name: str, version: int) -> ServingParams | None:
    """How a version was served when it was champion; None where an earlier release deployed it."""
    with mlflow_errors_as_tracking_error(f"reading how {model_name} version {version} was served"):
        said = client().get_model_version(model_name, str(version)).tags.get(SERVED_AS)
    return ServingParams.model_validate_json(said) if said else None
