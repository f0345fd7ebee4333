"""What the deletion of an archive would break, in sentences."""

from collections.abc import Mapping
from typing import Any

from tasks.catalogue.archives import read_archive
from tasks.deletion.archives import find_obstacles, list_trained
from tasks.storage.object_names import Bucket
from tasks.storage.steps import object_name
from tasks.tracking.registered_versions import list_models


def of_deletion(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which versions and runs need an archive, and what `force` would do to them.

    Raises:
        CatalogueError: There is no such archive.
        PrefectUnavailableError: Prefect's server does not answer.
        StorageError: The object store cannot be reached.
        TrackingError: MLflow cannot be reached.
    """
    name = parameters.get("archive")
    if not isinstance(name, str):
        return ()
    archive = read_archive(name)
    key = object_name(archive.name, Bucket.DATASETS).key
    reasons = [obstacle.reason for obstacle in find_obstacles(key, archive.digest or "")]
    unread = [] if archive.digest else ["It has not been checked: the run reads it, and may find more that needs it."]
    if not reasons:
        return (*unread, "Nothing is known that needs it. The reports of its checks and its lineage stay.")
    force = (
        "So the run refuses to delete it, unless force is true. Then the versions stay and are served as before, but "
        "nobody can train them again from it, and runs that still read it fail."
    )
    return (*reasons, *_champions(key, archive.digest or ""), *unread, force)


def _champions(archive: str, digest: str) -> list[str]:
    champions = {f"{model.name}/{model.aliases['champion']}" for model in list_models() if "champion" in model.aliases}
    trained = list_trained(archive, digest)
    return [f"Clients get {version}: it is champion." for version in trained if version in champions]
