"""What must not be deleted, and what only by force."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import StudioError
from tasks.storage.globs import compile_glob, fixed_prefix
from tasks.storage.object_names import Bucket, key_in

SHOWN = 10


class DeletionError(StudioError):
    """Something is in use, or is not there."""


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why something should stay, in a sentence; an `absolute` one holds against `force`, too."""

    reason: str
    absolute: bool = False


def require_deletable(name: str, obstacles: Sequence[Obstacle], *, force: bool) -> None:
    """Return if nothing is in the way.

    Raises:
        DeletionError: Something is; the message has every reason.
    """
    standing = [each for each in obstacles if each.absolute or not force]
    if not standing:
        return
    reasons = " ".join(each.reason for each in standing)
    if any(each.absolute for each in standing):
        raise DeletionError(f"Expected that nothing needs {name}, found: {reasons} Change that first.")
    raise DeletionError(
        f"Expected that nothing needs {name}, found: {reasons} Start this again with force if it shall go all the same."
    )


def archives_named(parameters: Mapping[str, Any]) -> list[str]:
    """Return the entries by which a flow run with these parameters names archives, the gold archive among them."""
    several, promotion = parameters.get("archives"), parameters.get("promotion")
    evaluation, labelling = parameters.get("evaluation"), parameters.get("labelling")
    also = evaluation.get("also") if isinstance(evaluation, dict) else None
    entries = [
        parameters.get("archive"),
        parameters.get("source"),
        *(several if isinstance(several, list) else []),
        *(also if isinstance(also, list) else []),
        promotion.get("gold") if isinstance(promotion, dict) else None,
        labelling.get("compare") if isinstance(labelling, dict) else None,
    ]
    return [entry for entry in entries if isinstance(entry, str)]


def stands_for(entry: str, archive: str) -> bool:
    """Return whether an entry, a name or a glob, stands for an archive, given by its key in bucket `datasets`."""
    key = key_in(Bucket.DATASETS, entry)
    if key is None or key == archive:
        return key is not None
    return fixed_prefix(key) is not None and compile_glob(key).match(archive) is not None


def archive_obstacles(
    archive: str, digest: str, trained: Mapping[str, Mapping[str, str]], runs: Iterable[str]
) -> list[Obstacle]:
    """Return what needs an archive.

    Args:
        archive: Its key in bucket `datasets`.
        digest: The SHA-256 of its bytes, in hex.
        trained: By version (`shapes/3`) the archives that it was trained on, and the SHA-256 of each.
        runs: Names of unfinished flow runs that read the archive.
    """
    same = [version for version, archives in trained.items() if digest in archives.values()]
    earlier = [version for version, archives in trained.items() if archive in archives and version not in same]
    found = []
    if same:
        found.append(Obstacle(reason=f"{_versions(same)} trained on these very bytes."))
    if earlier:
        found.append(Obstacle(reason=f"{_versions(earlier)} trained on an earlier archive of this name."))
    if runs := list(runs):
        found.append(Obstacle(reason=f"Unfinished runs read it: {_some(runs)}."))
    return found


@dataclass(frozen=True, kw_only=True)
class VersionUse:
    """Who uses a version.

    `history` are the champions of the model, the present one last; `holders` are runs of inference that use the
    version, `deployments` unfinished flow runs that change what is served of the model, `training` its own training if
    that has not ended, `trained_from` the versions that were trained from its weights.
    """

    aliases: Sequence[str] = ()
    is_served: bool = False
    history: Sequence[int] = ()
    holders: Sequence[str] = ()
    deployments: Sequence[str] = ()
    training: Sequence[str] = ()
    trained_from: Sequence[str] = ()


def version_obstacles(version: int, use: VersionUse) -> list[Obstacle]:
    """Return what needs a version."""
    fixed = [alias for alias in use.aliases if alias in {"champion", "challenger"}]
    other = [alias for alias in use.aliases if alias not in fixed]
    is_target = list(use.history[-2:-1]) == [version]
    absolute = [
        (fixed, f"It is {' and '.join(fixed)}."),
        (use.is_served, "Triton serves it."),
        (is_target, "It is the champion that rollback-model goes back to."),
        (use.holders, f"Runs of inference use it: {_some(use.holders)}."),
        (use.training, f"Its training has not ended: {_some(use.training)}."),
        (use.deployments, f"Unfinished runs change what is served of the model: {_some(use.deployments)}."),
    ]
    by_force = [
        (other, f"Alias {_some(other)} points at it."),
        (version in use.history and not is_target, "It was champion, and rollback-model can go back to it."),
        (use.trained_from, f"{_versions(use.trained_from)} trained from its weights."),
    ]
    return [
        *(Obstacle(reason=reason, absolute=True) for holds, reason in absolute if holds),
        *(Obstacle(reason=reason) for holds, reason in by_force if holds),
    ]


def prediction_obstacles(*, has_ended: bool | None, is_published: bool) -> list[Obstacle]:
    """Return what needs the results of a run of inference; `has_ended` is None if Prefect does not know the run."""
    if has_ended is False:
        return [Obstacle(reason="Its flow run has not ended.", absolute=True)]
    if has_ended is None and not is_published:
        reason = "Prefect does not know the flow run, and it has no summary.json: another server may be at work on it."
        return [Obstacle(reason=reason)]
    return []


def restore_command(bucket: str, key: str, version_id: str | None) -> str:
    """Return how to get a deleted object back; empty if the bucket does not keep it."""
    if version_id is None:
        return ""
    source = f"{bucket}/{key}?versionId={version_id}"  # botocore, in which aws is written, quotes it itself
    return shlex.join(["aws", "s3api", "copy-object", "--bucket", bucket, "--key", key, "--copy-source", source])


def _versions(names: Sequence[str]) -> str:
    return f"Version {names[0]} was" if len(names) == 1 else f"Versions {_some(names)} were"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
