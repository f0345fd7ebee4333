"""What a training begins from: its base model, and its archives as one dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.files import sha256_of
from tasks.merge import steps as merge_steps
from tasks.merge.class_mapping import ANY_CLASS
from tasks.merge.plan import MergePlan
from tasks.merge.report import plan_markdown
from tasks.orchestration import artifacts
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.step import retried
from tasks.parameters import MergePolicy, ValidationPolicy
from tasks.storage import steps as storage_steps
from tasks.storage.object_names import Bucket
from tasks.storage.steps import object_name
from tasks.tracking import registry
from tasks.training.steps import resolve_base_model
from tasks.validation import steps as validation_steps

SINGLE_CLASS = "item"  # as Ultralytics calls it


@dataclass(frozen=True)
class BaseModel:
    """The base model under the `name` that the user gave, and as Ultralytics takes it: a file, or a name it knows.

    `address` is the name with the number of the version that an alias stood for.
    """

    name: str
    source: str
    address: str

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the weights, in hex; None for an architecture, and for weights not downloaded yet."""
        return sha256_of(Path(self.source)) if Path(self.source).is_file() else None


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The merged dataset on disk, its plan, and the SHA-256 (hex) of each archive by name."""

    dataset: merge_steps.MergedDataset
    plan: MergePlan
    digests: Mapping[str, str]


def fetch_base_model(name: str, folder: Path) -> BaseModel:
    """Return the base model: weights of the registry or of bucket base-models, or a name that Ultralytics knows.

    Raises:
        BaseModelError: It is none of these, or nothing can be trained from it.
    """
    log_step("looking for base model %s", name)
    folder.mkdir()
    if registered := retried(registry.fetch_registered_base_model)(name, folder):
        address, weights = registered
        return BaseModel(name, str(weights), address)
    fetched = retried(storage_steps.fetch_base_model)(name, folder)
    return BaseModel(name, resolve_base_model(name, fetched, folder), name)


def merge_archives(
    archives: Sequence[str], gold: str | None, policy: ValidationPolicy, merge: MergePolicy, folder: Path
) -> TrainingData:
    """Fetch, validate and merge the archives into `folder`; the gold archive is only measured on.

    Its check has the default policy: it needs neither train images nor enough labels to train on.

    Raises:
        StudioError: An archive is not there or not valid, or they cannot become one dataset.
    """
    sources = [fetch_valid_archive(archive, policy, folder) for archive in archives]
    gold_source = fetch_valid_archive(gold, ValidationPolicy(), folder) if gold else None
    log_step("merging %d archives", len(sources))
    plan = merge_steps.plan_archives(sources, merge, gold_source)
    artifacts.show_markdown("merge-plan", plan_markdown(plan))
    merge_steps.require_mergeable(plan, merge)
    dataset = merge_steps.write_merge(sources, plan, folder / "dataset", gold_source)
    return TrainingData(dataset=dataset, plan=plan, digests={source.name: source.digest for source in sources})


def single_class_policy(merge: MergePolicy) -> MergePolicy:
    """Return the policy with one class, `item`, in place of all; a class that it drops is still dropped."""
    renamed = {name: target and SINGLE_CLASS for name, target in merge.classes.items()}
    return merge.model_copy(update={"classes": {ANY_CLASS: SINGLE_CLASS} | renamed})


def archive_name(archive: str) -> str:
    """Return the one name of an archive, key or address: by it archives are compared.

    Raises:
        StorageError: No run may read it, or it is no name.
    """
    return object_name(archive, Bucket.DATASETS).name_for(Bucket.DATASETS)


def fetch_valid_archive(archive: str, policy: ValidationPolicy, folder: Path) -> merge_steps.ValidArchive:
    """Return an archive, downloaded into `folder`, that was found valid; it gets its `archive_name`.

    Raises:
        StudioError: It is not there, or not valid: the message has the address of its report.
    """
    archive = archive_name(archive)
    log_step("checking %s", archive)
    path, digest, _ = retried(storage_steps.fetch_archive)(archive, folder)
    checked = validation_steps.check_archive(path, archive, digest, policy)
    page = f"{flow_run_id()}/datasets/{digest}.html"
    validation_steps.require_valid(checked.report, storage_steps.write_text(checked.page, Bucket.RUNS, page))
    return merge_steps.valid_archive(archive, path, checked.report, checked.traits)
