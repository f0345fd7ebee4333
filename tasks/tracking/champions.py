"""Who is champion, who was before, since when, and how each was served: the alias, and tags of model and versions."""

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.champions import read_line, write_line
from tasks.core.parameters import ServingParams
from tasks.core.patience import PATIENTLY
from tasks.tracking.connection import TrackingError, client, explained, optional
from tasks.tracking.registry import CHAMPION

LINE = "champions"
SINCE, UNTIL, SERVED_AS = "champion_since", "champion_until", "served_as"


@task(cache_policy=NO_CACHE, **PATIENTLY)
def line_of(model_name: str) -> list[int]:
    """The champions of a model, the present one last; empty where none was deployed yet."""
    with explained(f"reading the champions of {model_name}"):
        model = client().get_registered_model(model_name)
    champion = model.aliases.get(CHAMPION)
    return read_line(model.tags.get(LINE), int(champion) if champion else None)


def earlier(model_name: str, line: Sequence[int], version: int | None) -> int:
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


@task(cache_policy=NO_CACHE, **PATIENTLY)
def crown(model_name: str, version: int, line: Sequence[int]) -> None:
    """Point alias `champion` at a version; `line` is the line of champions with it.

    The line is written first: killed in between, the alias mends it.
    """
    mlflow = client()
    with explained(f"pointing {model_name}@{CHAMPION} at version {version}"):
        mlflow.set_registered_model_tag(model_name, LINE, write_line(line))
        try:
            mlflow.set_registered_model_alias(model_name, CHAMPION, str(version))
        except Exception:  # an answer that was lost is no refusal
            if mlflow.get_registered_model(model_name).aliases.get(CHAMPION) != str(version):
                raise


@task(cache_policy=NO_CACHE)
def keep_history(model_name: str, before: int | None, version: int, serving: ServingParams) -> None:
    """Say on both versions when one followed the other, and how the new one is served; never raises."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with optional("who was champion when"):
        mlflow = client()
        how = serving.model_dump_json(exclude={"parity", "canary"})
        mlflow.set_model_version_tag(model_name, str(version), SERVED_AS, how)
        if before != version:
            mlflow.set_model_version_tag(model_name, str(version), SINCE, now)
            mlflow.delete_model_version_tag(model_name, str(version), UNTIL)
        if before not in {None, version}:
            mlflow.set_model_version_tag(model_name, str(before), UNTIL, now)


def served_as(model_name: str, version: int) -> ServingParams | None:
    """How a version was served when it was champion; None where an earlier release deployed it."""
    with explained(f"reading how {model_name} version {version} was served"):
        said = client().get_model_version(model_name, str(version)).tags.get(SERVED_AS)
    return ServingParams.model_validate_json(said) if said else None
