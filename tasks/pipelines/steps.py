"""Steps of pipelines on the object store: their archives, chosen once, and what the runs that they start have left."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from tasks.dataset.findings import Verdict
from tasks.dataset_watch.rules import EXTENSION, is_archive
from tasks.errors import StudioError, expected_found_fix, safe_repr
from tasks.inference.image_lists import find_image_list, run_input
from tasks.orchestration.step import retried_step
from tasks.parameters import SelectionParams
from tasks.pipelines.rules import (
    CHAMPION_ARCHIVES,
    ChosenArchive,
    PipelinePlan,
    Selection,
    choose_archives,
)
from tasks.review.asked_images import LOOPS, loop_folder
from tasks.storage.globs import compile_glob, fixed_prefix
from tasks.storage.object_names import Bucket, S3Uri
from tasks.storage.object_store import ObjectStore
from tasks.storage.ranged_reads import ObjectChangedError, head_object
from tasks.storage.s3_client import SHORT_OUTAGE, TRANSFERS, StorageError
from tasks.storage.steps import object_name
from tasks.tracking import registry
from tasks.tracking.mlflow_client import TrackingError
from tasks.tracking.trained_versions import find_champion_archives
from tasks.training.base_models import require_official
from tasks.validation.check_records import read_checks

_RUNS, _BASE_MODELS = ObjectStore(Bucket.RUNS, SHORT_OUTAGE), ObjectStore(Bucket.BASE_MODELS, SHORT_OUTAGE)
_UPLOAD = "Upload it with `studio upload x.zip`, or correct the name."


@retried_step
def plan_archives(flow_run: str, model_name: str, entries: Sequence[str], gold: str | None = None) -> PipelinePlan:
    """Return the archives of a pipeline, which are chosen once: a retry trains on what its first attempt chose.

    Raises:
        PipelineError: An entry or `gold` stands for nothing, or an archive is named twice.
        StorageError: The object store does not answer.
    """
    plan = _plan_key(flow_run)
    stored = _RUNS.get(plan)
    if stored is None:
        _RUNS.put_if_absent(plan, find_archives.fn(model_name, entries, gold).to_json())
        stored = _RUNS.read_text(plan).encode()
    return PipelinePlan.from_json(stored)


@retried_step
def find_archives(model_name: str, entries: Sequence[str], gold: str | None) -> PipelinePlan:
    """Return the archives that a pipeline would choose now.

    Raises:
        PipelineError: An entry or `gold` stands for nothing, or an archive is named twice.
        StorageError: The object store does not answer.
    """
    measured = [_select_gold(gold)] if gold else []
    return choose_archives([*(_select(entry, model_name) for entry in entries), *measured])


@retried_step
def has_chosen(flow_run: str) -> bool:
    """Return whether a pipeline has chosen its archives, in whichever attempt.

    Raises:
        StorageError: The object store does not answer.
    """
    return _RUNS.exists(_plan_key(flow_run))


def _plan_key(flow_run: str) -> str:
    return f"{flow_run}/pipeline.json"


def loop_archive(model_name: str, flow_run: str, kind: str = "") -> str:
    """Return the key of an archive that a run of close-loop makes; without a kind, how the keys of all begin."""
    return f"{loop_folder(model_name)}{flow_run[:8]}-{kind}"


@retried_step
def require_archive(name: str) -> str:
    """Return the name of an archive that a run has made for this pipeline.

    Raises:
        StudioError: It is gone, or the object store does not answer.
    """
    if _head(object_name(name, Bucket.DATASETS)):
        return name
    fix = f"`studio lineage {name}` says how to get it back; then retry this run. Or start the loop again."
    raise StudioError(expected_found_fix(f"archive {name}, which this loop has made", "that it was deleted", fix))


@retried_step
def find_listed_images(flow_run: str) -> str | None:
    """Return the input that stands for the images that a run of label-images or select-images has listed.

    It is None if there are none, as a version is sure of all, or no strategy has chosen one.

    Raises:
        StudioError: The list is damaged or gone, or the object store does not answer.
    """
    listed = find_image_list(flow_run)
    if listed is None:
        fix = "Start again from the images: clean-up removes lists after cleaning.parts days."
        raise StudioError(expected_found_fix(f"the list of images of flow run {flow_run}", "none", fix))
    return run_input(flow_run) if listed.images else None


@retried_step
def require_versions(model_name: str, selection: SelectionParams) -> None:
    """Check that select-images will find the versions which it compares; a model may have no champion yet.

    Raises:
        TrackingError: One that is named is not there, they are of different tasks, or MLflow cannot be reached.
    """
    named = selection.version
    version = registry.find_version.fn(model_name, named) if named else registry.find_champion.fn(model_name)
    if version and "disagreement" in selection.wanted:
        registry.find_rival.fn(version, selection.other_version)


@retried_step
def require_base_model(name: str) -> None:
    """Check that train-model will find a base model: a version, a file in bucket base-models, or an official model.

    Raises:
        BaseModelError: It is none of these, or nothing can be trained from it.
        StudioError: There is no such version, or MLflow or the object store cannot be reached.
    """
    if address := registry.ADDRESS.fullmatch(name):
        registry.find_version.fn(address["name"], int(address["version"]) if address["version"] else address["alias"])
        return
    stored = object_name(name, Bucket.BASE_MODELS)
    if stored.bucket != Bucket.BASE_MODELS or not _BASE_MODELS.exists(stored.key):
        require_official(name)


@retried_step
def find_valid_checks(archives: Sequence[ChosenArchive]) -> dict[str, UUID]:
    """Return the flow runs that have found these very bytes valid, by the names of the archives.

    Raises:
        StorageError: The object store does not answer.
    """
    names = [object_name(archive.name, Bucket.DATASETS) for archive in archives]
    ours = [
        (archive, name.key) for archive, name in zip(archives, names, strict=True) if name.bucket == Bucket.DATASETS
    ]
    checks = read_checks((key, archive.etag) for archive, key in ours)
    return {
        archive.name: UUID(check.flow_run_id)
        for (archive, _), check in zip(ours, checks, strict=True)
        if check and check.verdict is not Verdict.INVALID
    }


@retried_step
def read_class_names(checks: Mapping[str, UUID]) -> dict[str, tuple[str, ...]]:
    """Return what archives call their classes, by the flow runs that have found them valid.

    Raises:
        StorageError: A report is gone, or the object store does not answer.
    """

    def read(check: UUID) -> tuple[str, ...]:
        return tuple(json.loads(_RUNS.read_text(f"{check}/report.json"))["statistics"]["class_names"])

    with ThreadPoolExecutor(TRANSFERS) as pool:
        return dict(zip(checks, pool.map(read, checks.values()), strict=True))


def report_address(check: str) -> str:
    """Return the address of the report of a check, given by its flow run."""
    return _RUNS.presigned_url(f"{check}/report.html")


def _select(entry: str, model_name: str) -> Selection:
    try:
        return _select_champion(model_name) if entry == CHAMPION_ARCHIVES else _select_objects(entry)
    except (StorageError, TrackingError) as error:
        if error.transient:
            raise
        return Selection(entry=entry, kind="name", fault=str(error))


def _select_gold(gold: str) -> Selection:
    try:
        name = object_name(gold, Bucket.DATASETS)
        exact = _head(name)
    except StorageError as error:
        if error.transient:
            raise
        return Selection(entry=gold, kind="gold", fault=str(error))
    fault = "" if exact else f"Expected the archive of promotion.gold at {name}, found none. {_UPLOAD}"
    return Selection(entry=gold, kind="gold", archives=(exact,) if exact else (), fault=fault)


def _select_objects(entry: str) -> Selection:
    name = object_name(entry, Bucket.DATASETS)
    exact = _head(name)
    if exact:
        return Selection(entry=entry, kind="name", archives=(exact,))
    prefix = fixed_prefix(name.key)
    if prefix is None:
        return Selection(entry=entry, kind="name", fault=f"Expected an archive at {name}, found none. {_UPLOAD}")
    pattern = compile_glob(name.key)
    found = tuple(
        ChosenArchive(name=S3Uri(name.bucket, listed.key).name_for(Bucket.DATASETS), etag=listed.etag.strip('"'))
        for listed in ObjectStore(name.bucket, SHORT_OUTAGE).list(prefix)
        if is_archive(listed.key)
        and pattern.match(listed.key)
        and (prefix.startswith(LOOPS) or not listed.key.startswith(LOOPS))
    )
    fault = (
        "" if found else f"Expected archives that match {name}, found none whose name ends in {EXTENSION}. {_UPLOAD}"
    )
    return Selection(entry=entry, kind="glob", archives=found, fault=fault)


def _select_champion(model_name: str) -> Selection:
    names = find_champion_archives.fn(model_name)
    if names is None:
        fault = (
            f"Expected {model_name!r} to have a champion for {CHAMPION_ARCHIVES}, found none. Name archives instead: "
            "the version that is trained on them can become the champion."
        )
        return Selection(entry=CHAMPION_ARCHIVES, kind="champion", fault=fault)
    found = {name: _head(object_name(name, Bucket.DATASETS)) for name in names}
    missing = [name for name, archive in found.items() if archive is None]
    fault = ""
    if missing:
        fault = (
            f"Expected the archives of the champion of {model_name!r}, found that {safe_repr(missing, 300)} are gone. "
            f"Upload them again, or name the archives instead of {CHAMPION_ARCHIVES}."
        )
    archives = tuple(archive for archive in found.values() if archive)
    return Selection(entry=CHAMPION_ARCHIVES, kind="champion", archives=archives, fault=fault)


def _head(name: S3Uri) -> ChosenArchive | None:
    """The archive of that very name, which may hold `*`, `?` or `[`."""
    try:
        stored = head_object(name, "")
    except ObjectChangedError:
        return None
    return ChosenArchive(name=name.name_for(Bucket.DATASETS), etag=stored.etag.strip('"'))
