"""What a training left in MLflow: its version and the decision about it, its arguments, the champion's archives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tasks.merge.class_mapping import bind_renames
from tasks.orchestration.step import retried_step
from tasks.parameters import MergePolicy, TrainingParams
from tasks.tracking.lineage import PLAN_ARTIFACT, POLICIES_ARTIFACT, archives_of, is_imported
from tasks.tracking.mlflow_client import TrackingError, configure_mlflow, tracking_errors
from tasks.tracking.registered_models import CHAMPION
from tasks.tracking.registry import ModelVersion, find_champion, read_tags


@dataclass(frozen=True, kw_only=True)
class TrainedVersion:
    """The version that a run of train-model registered, and whether it was promoted, with the reason."""

    number: int
    promoted: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class ChampionTraining:
    """What the champion was trained from, and how; `guessed` says what of this nobody has kept, and is else empty.

    `merge` is how its archives became one dataset, `archives` their names, empty if nobody has kept them, and
    `class_names` what the champion calls their classes.
    """

    base_model: str
    training: TrainingParams
    merge: MergePolicy
    archives: frozenset[str] = frozenset()
    class_names: tuple[str, ...] = ()
    guessed: str = ""

    def merge_again(self, archives: Mapping[str, Sequence[str]]) -> MergePolicy:
        """Return how to merge these archives, with the classes of each, as the champion's were merged.

        What it, or a person for it, has labelled since has its class names already, and keeps them. Of a champion of an
        earlier release nobody knows which archives had these names: its renames are taken as they are.
        """
        if not self.archives:
            return self.merge
        again = {archive: names for archive, names in archives.items() if archive in self.archives}
        others = {archive: names for archive, names in archives.items() if archive not in self.archives}
        renames = bind_renames(self.merge.classes, again, others, self.class_names)
        return self.merge.model_copy(update={"classes": renames})


@retried_step
def find_trained_version(model_name: str, flow_run_id: str) -> TrainedVersion:
    """Return the version that a completed run of train-model registered.

    Raises:
        TrackingError: There is none, or MLflow cannot be reached.
    """
    condition = f"name = '{model_name}' AND tags.flow_run_id = '{flow_run_id}'"
    with tracking_errors(f"looking for the version of flow run {flow_run_id}") as mlflow:
        found = mlflow.search_model_versions(condition, order_by=["version_number DESC"], max_results=1)
    if not found:
        raise TrackingError(
            f"Expected a version of {model_name!r} from flow run {flow_run_id}, found none. It was deleted: start the "
            "pipeline again."
        )
    tags = found[0].tags
    return TrainedVersion(
        number=int(found[0].version),
        promoted=tags.get("promotion") == "promoted",
        reason=tags.get("promotion_reason", ""),
    )


@retried_step
def find_champion_archives(model_name: str) -> tuple[str, ...] | None:
    """Return the names of the archives on which the champion was trained; None if there is no champion.

    Raises:
        TrackingError: MLflow cannot be reached, or the champion does not say its archives.
    """
    with tracking_errors(f"looking for the champion of {model_name}") as mlflow:
        models = mlflow.search_registered_models(f"name = '{model_name}'")
        aliases = models[0].aliases if models else {}
        if CHAMPION not in aliases:
            return None
        champion = mlflow.get_model_version(model_name, aliases[CHAMPION])
    archives = tuple(archives_of(champion.tags))
    if not archives:
        raise TrackingError(
            f"Expected {model_name} version {champion.version} to name the archives of its training, found none: "
            "train-model has not registered it. Name archives that people have labelled instead of champion+."
        )
    return archives


@retried_step
def find_champion_training(model_name: str) -> ChampionTraining | None:
    """Return what the champion was trained from, and how; None if there is no champion.

    One that was registered from weights, or whose training is not kept, stands for itself: from its weights, at its
    image size.

    Raises:
        TrackingError: There is no such model, or MLflow cannot be reached.
    """
    champion = find_champion.fn(model_name)
    if champion is None:
        return None
    tags = read_tags.fn(model_name, champion.version)
    own_weights = f"models:/{model_name}/{champion.version}"
    base = own_weights if is_imported(tags) else tags.get("base_model") or own_weights
    try:
        training, merge = read_policies.fn(champion)
        return ChampionTraining(
            base_model=base,
            training=training,
            merge=merge,
            archives=_read_archives(champion),
            class_names=champion.class_names,
        )
    except TrackingError as error:
        if error.transient:
            raise
    training = TrainingParams.model_validate({"imgsz": champion.image_size})
    guessed = f"nobody has kept how {model_name} version {champion.version} was trained"
    return ChampionTraining(base_model=base, training=training, merge=MergePolicy(), guessed=guessed)


@retried_step
def read_policies(version: ModelVersion) -> tuple[TrainingParams, MergePolicy]:
    """Return the arguments of the training that made a version, and how its archives were merged.

    Raises:
        TrackingError: They are not kept, or of another release, or MLflow cannot be reached.
    """
    name = f"{version.name} version {version.version}"
    found = "none"
    policies = _read_artifact(version, POLICIES_ARTIFACT)
    try:
        if "training" in policies:
            training = TrainingParams.model_validate(policies["training"])
            return training, MergePolicy.model_validate(policies.get("merge", {}))
    except ValidationError as error:
        found = f"others than this release takes ({error.errors()[0]['msg']})"
    raise TrackingError(
        f"Expected the arguments of its training in {POLICIES_ARTIFACT} of the run of {name}, found {found}. "
        "Train it anew, or set label_errors.out_of_fold to never."
    )


def _read_archives(version: ModelVersion) -> frozenset[str]:
    """Return the archives whose classes the plan of a version's merge names, also that of its gold archive."""
    return frozenset(_read_artifact(version, PLAN_ARTIFACT).get("archive_class_names", {}))


def _read_artifact(version: ModelVersion, artifact: str) -> dict[str, Any]:
    """Return a JSON document that the training of a version has left; empty if there is none."""
    import mlflow.artifacts

    with tracking_errors(f"reading how {version.name} version {version.version} was trained") as client:
        if artifact not in {each.path for each in client.list_artifacts(version.run_id)}:
            return {}
        configure_mlflow()
        document: dict[str, Any] = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/{artifact}")
        return document
