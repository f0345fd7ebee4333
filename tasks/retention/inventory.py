"""What was left behind, and who is protected: one look at the store, MLflow, Triton and Prefect."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.inference.image_lists import LISTS, run_input
from tasks.orchestration.scratch import list_abandoned
from tasks.orchestration.unfinished_runs import FLOW_RUN_ID, find_ends, list_unfinished_runs
from tasks.parameters import LIVE_MODEL
from tasks.retention.rules import Kind, Leaving, State
from tasks.serving import model_control
from tasks.serving.triton_names import is_aside
from tasks.storage.leases import lease_holders
from tasks.storage.object_names import Bucket
from tasks.storage.object_store import ListedObject, ObjectStore
from tasks.storage.s3_client import SHORT_OUTAGE
from tasks.tracking import mlflow_bin
from tasks.tracking.champions import champions_of
from tasks.tracking.inference_runs import list_inference_runs
from tasks.tracking.mlflow_bin import DeletedEntry
from tasks.tracking.registered_versions import RegisteredVersion, list_models, list_versions
from tasks.tracking.registry import ADDRESS

_DEPLOYING = ("deploy-model", "rollback-model", "run-pipeline", "close-loop")
_WEIGHTS = "best.pt"
_ANSWERS, _TAKEN_ANSWERS, _REVIEWED = "review-answers", "review/answers.json", "review-images"
_NO_BIN = "this MLflow is not that of the local stack, and does not list what was deleted. Run `mlflow gc` beside it."
_FOLDERS = {
    **dict.fromkeys(("checkpoints", "folds"), Kind.CHECKPOINTS),
    "inference": Kind.PARTS,
    **dict.fromkeys(("predictions", "corrupted-predictions"), Kind.PARTS),  # of evaluations
    **dict.fromkeys(("reference", "embeddings"), Kind.PARTS),  # of monitorings
    "selection": Kind.PARTS,
    _REVIEWED: Kind.PARTS,  # the archive has those that somebody has submitted
}

_Groups = dict[tuple[Kind, str, str], list[ListedObject]]  # by the flow run and the key of the folder or the object


def take_stock() -> State:
    """Return all that was left behind, and who is protected.

    Raises:
        StudioError: A service is away: without its word nothing is removed.
    """
    versions = list_versions()
    deleted = mlflow_bin.list_deleted()
    predictions = list(_predictions())
    answered = {owner for leaving in predictions for owner in leaving.owners}
    leavings = [
        *_run_leavings({version.tags.get("flow_run_id", "") for version in versions}, answered),
        *predictions,
        *_graphs({_name(version) for version in versions}),
        *_uploads(),
        *_scratch_folders(),
        *_deleted_entries(deleted or ()),
    ]
    return replace(protect(leavings, versions), unasked={Kind.TRACKED: _NO_BIN} if deleted is None else {})


def protect(leavings: Iterable[Leaving], versions: list[RegisteredVersion]) -> State:
    """Return these leavings with who is protected now.

    Raises:
        StudioError: A service is away.
    """
    leavings = tuple(leavings)
    models = list_models()
    ready = model_control.list_ready_versions()
    served = {f"{model}/{version}" for model, numbers in ready.items() for version in numbers}
    for model in models:
        candidates = model_control.list_candidates(model.name)
        numbers = {*lease_holders(model.name), *(candidate.version for candidate in candidates)}
        served |= {f"{model.name}/{number}" for number in numbers}
    owners = {owner for leaving in leavings for owner in leaving.owners if FLOW_RUN_ID.fullmatch(owner)}
    ends = find_ends(owners)
    unfinished = {run for run, ended in ends.items() if ended is None}
    deploying = {run.parameters.get("model_name") for run in list_unfinished_runs(*_DEPLOYING)}
    unfinished |= {_name(version) for version in versions if version.model in deploying}
    unfinished |= _runs_to_be_read(leavings)
    return State(
        leavings=leavings,
        unfinished=frozenset(unfinished),
        unknown=frozenset(owners - ends.keys()),
        ends={run: ended for run, ended in ends.items() if ended},
        served=frozenset(served),
        aliased=frozenset(f"{model.name}/{number}" for model in models for number in model.aliases.values()),
        champions=frozenset(
            [f"{model.name}/{number}" for model in models for number in champions_of(model.tags)]
            + [_name(version) for version in versions if "champion_since" in version.tags]
        ),
        named=frozenset(_named(leavings, versions)),
    )


def _runs_to_be_read(leavings: Iterable[Leaving]) -> set[str]:
    """The runs whose lists may still be read: a run that has not ended names them, or is a loop, whose parts will."""
    lists = f"s3://{Bucket.RUNS}/{LISTS}/"
    listed = {owner for leaving in leavings if leaving.name.startswith(lists) for owner in leaving.owners}
    if not listed or list_unfinished_runs("close-loop"):
        return listed
    inputs = [run.parameters.get("inputs") for run in list_unfinished_runs()]
    named = {text for texts in inputs if isinstance(texts, list) for text in texts if isinstance(text, str)}
    return {run for run in listed if run_input(run) in named}


def _named(leavings: Iterable[Leaving], versions: Iterable[RegisteredVersion]) -> Iterator[str]:
    """The runs of MLflow that made versions, the versions that others began from, and those that made predictions."""
    for version in versions:
        yield version.run_id
        base = ADDRESS.fullmatch(version.tags.get("base_model", ""))
        if base and base["version"]:
            yield f"{base['name']}/{base['version']}"
    kept = {owner for leaving in leavings if leaving.kind is Kind.PREDICTIONS for owner in leaving.owners}
    for run in list_inference_runs():
        if run.flow_run_id in kept:
            yield from (f"{run.model}/{version}" for version in run.versions)


def _run_leavings(registered: set[str], answered: set[str]) -> Iterator[Leaving]:
    """Checkpoints and parts, below the ids of their flow runs, and lists of images.

    The weights of a training that registered no version are the only ones there are: they stay. So do the answers of
    people of which no round has made an archive, with the images that they are about, and the list of a run that has
    `answered` images: without it the run would stand for all of these.
    """
    groups: _Groups = {}
    answers: dict[str, list[ListedObject]] = {}
    taken: set[str] = set()
    for entry in ObjectStore(Bucket.RUNS, SHORT_OUTAGE).list():
        run, _, rest = entry.key.partition("/")
        folder, slash, _ = rest.partition("/")
        if run == _ANSWERS:
            answers.setdefault(folder, []).append(entry)
        listing = rest.removesuffix(".jsonl")
        if run == LISTS and FLOW_RUN_ID.fullmatch(listing) and listing not in answered:
            groups[Kind.PARTS, listing, entry.key] = [entry]
        if not FLOW_RUN_ID.fullmatch(run):
            continue
        if rest == _TAKEN_ANSWERS:
            taken.add(run)
        if slash and folder in _FOLDERS:
            groups.setdefault((_FOLDERS[folder], run, f"{run}/{folder}/"), []).append(entry)
        elif rest == _WEIGHTS and run in registered:
            groups.setdefault((Kind.CHECKPOINTS, run, entry.key), []).append(entry)
    _sort_answers(groups, answers, taken)
    for (kind, run, key), entries in groups.items():
        yield _stored(kind, Bucket.RUNS, key, entries, {run})


def _sort_answers(groups: _Groups, answers: Mapping[str, list[ListedObject]], taken: set[str]) -> None:
    for run, entries in answers.items():
        if run in taken:
            groups[Kind.PARTS, run, f"{_ANSWERS}/{run}/"] = entries
        else:
            groups.pop((Kind.PARTS, run, f"{run}/{_REVIEWED}/"), None)


def _predictions() -> Iterator[Leaving]:
    groups: dict[str, list[ListedObject]] = {}
    for entry in ObjectStore(Bucket.PREDICTIONS, SHORT_OUTAGE).list():
        run, slash, _ = entry.key.partition("/")
        if slash and FLOW_RUN_ID.fullmatch(run):
            groups.setdefault(run, []).append(entry)
    for run, entries in groups.items():
        yield _stored(Kind.PREDICTIONS, Bucket.PREDICTIONS, f"{run}/", entries, {run})


def _graphs(registered: set[str]) -> Iterator[Leaving]:
    """The folders of versions that the registry knows: of others it cannot say whether they were champion."""
    groups: dict[str, list[ListedObject]] = {}
    for entry in ObjectStore(Bucket.MODELS, SHORT_OUTAGE).list():
        model, _, rest = entry.key.partition("/")
        name = f"{model}/{rest.partition('/')[0]}"
        if name in registered and model != LIVE_MODEL and not is_aside(model):
            groups.setdefault(name, []).append(entry)
    for name, entries in groups.items():
        yield _stored(Kind.GRAPHS, Bucket.MODELS, f"{name}/", entries, {name})


def _uploads() -> Iterator[Leaving]:
    store = ObjectStore(Bucket.DATASETS, SHORT_OUTAGE)
    for upload in store.list_uploads():
        name = f"{store.uri(upload.key)}#{upload.upload_id}"
        yield Leaving(kind=Kind.UPLOADS, name=name, size=upload.size, files=1, changed=upload.changed)


def _scratch_folders() -> Iterator[Leaving]:
    for folder in list_abandoned():
        with contextlib.suppress(FileNotFoundError):  # the next run on this worker removes them, too
            files = [path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
            changed = max([folder.lstat().st_mtime, *(file.st_mtime for file in files)])
            yield Leaving(
                kind=Kind.SCRATCH,
                name=str(folder),
                size=sum(file.st_size for file in files),
                files=len(files),
                changed=datetime.fromtimestamp(changed, UTC),
            )


def _deleted_entries(deleted: Iterable[DeletedEntry]) -> Iterator[Leaving]:
    store = ObjectStore(Bucket.MLFLOW, SHORT_OUTAGE)
    for entry in deleted:
        files = list(store.list(entry.prefix)) if entry.id in Path(entry.prefix).parts else []
        yield Leaving(
            kind=Kind.TRACKED,
            name=f"{entry.kind}/{entry.id}",
            size=sum(file.size for file in files),
            files=len(files),
            changed=entry.deleted,
            owners=frozenset({entry.id}),
        )


def _stored(kind: Kind, bucket: str, key: str, entries: list[ListedObject], owners: set[str]) -> Leaving:
    return Leaving(
        kind=kind,
        name=f"s3://{bucket}/{key}",
        size=sum(entry.size for entry in entries),
        files=len(entries),
        changed=max(entry.modified for entry in entries),
        owners=frozenset(owners),
    )


def _name(version: RegisteredVersion) -> str:
    return f"{version.model}/{version.number}"
