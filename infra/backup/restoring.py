"""A backup, put into an empty stack.

Services elsewhere may have the data of others. So the mark of a restore that has not ended, file `restoring`, tells
which backup it is of, and which of them were found empty: in these alone, what is there is of that restore.
"""

import shutil
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra import layout, stack, supervisord
from infra.backup import databases, last_backup, objects, state_files
from infra.backup.data_services import data_services
from infra.backup.manifests import BackupFolder, Manifest
from infra.backup.moments import is_to_come
from infra.command_errors import StackError
from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import StackSettings, write_private
from tasks.storage.object_names import Bucket

Echo = Callable[[str], None]


class Mark(BaseModel):
    """A restore that has not ended: its backup, by name and list of objects, and the addresses that were empty."""

    model_config = ConfigDict(frozen=True)

    backup: str
    index: str
    found_empty: frozenset[str] = frozenset()


def restore(settings: StackSettings, folder: Path, name: str | None, say: Echo) -> Manifest:
    """Put a backup of a folder, the newest if none is named, into a state folder that has no data.

    A restore that was cut short is begun anew; until one has ended no stack starts from the state folder. Secrets and
    settings that are there stay, and so do services elsewhere that the environment names.

    Raises:
        StackError: There is no such backup, none is named of several stacks, it is damaged or of a newer release, there
            is data already, or the restore of another backup was begun here.
        StorageError: The object store does not answer, or refuses an object.
    """
    source = BackupFolder(folder.resolve())
    if name is None:
        _require_one_stack(source)
    name, manifest = source.read(name)
    layout.require_not_newer(manifest.layout, manifest.release, f"backup {name}")
    _require_empty_state(settings)
    mark = _begin(settings, name, manifest)
    for made in ("postgres", "s3"):  # by a restore that was cut short
        shutil.rmtree(settings.state_dir / made, ignore_errors=True)
    state_files.restore(settings, source.blobs, manifest.files)
    settings = StackSettings.load()
    say(
        f"backup {name} of release {manifest.release}, taken {_when(manifest)}: {manifest.objects} objects of "
        f"{manifest.size / 1e6:.1f} MB"
    )
    with data_services(settings):
        _require_empty_services(settings, manifest, mark)
        _restore_databases(settings, source, manifest, mark, say)
        _restore_objects(settings, source, manifest, say)
    layout.write(settings, layout.Layout(layout=manifest.layout, release=manifest.release, servers=manifest.servers))
    last_backup.write(settings, name, source.folder, manifest.taken)  # what is here now is in it
    (settings.state_dir / layout.RESTORING).unlink()
    return manifest


def _when(manifest: Manifest) -> str:
    words = f"{manifest.taken.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{words} (a time to come, so a clock was wrong)" if is_to_come(manifest.taken) else words


def _require_one_stack(source: BackupFolder) -> None:
    newest = source.newest_of_each_stack()
    if len(newest) > 1:
        each = ", ".join(f"{name} of stack {stack_id[:8]}" for stack_id, name in newest.items())
        raise StackError(
            f"Expected the backups of one stack in {source.folder}, found those of {len(newest)}. Name the one to "
            f"restore (`--backup NAME`); the newest of each are {each}."
        )


def _begin(settings: StackSettings, name: str, manifest: Manifest) -> Mark:
    """Mark the state folder; returns the mark of an attempt before, if there was one.

    Raises:
        StackError: It was of another backup.
    """
    path = settings.state_dir / layout.RESTORING
    wanted = Mark(backup=name, index=manifest.index.sha256)
    try:
        found = Mark.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):  # earlier releases wrote the name alone: then nothing is known
        write_private(path, wanted.model_dump_json())
        return wanted
    if (found.backup, found.index) != (wanted.backup, wanted.index):
        raise StackError(
            f"Expected to go on with the restore of backup {found.backup}, which was cut short in "
            f"{settings.state_dir}, found backup {name} asked for. Name that one (`--backup {found.backup}`); for this "
            f"one, move {settings.state_dir} away first."
        )
    return found


def _require_empty_state(settings: StackSettings) -> None:
    state = settings.state_dir
    if (state / layout.RESTORING).exists():
        stack.down(settings)  # what a restore that was killed has started
        return
    if supervisord.process(settings) is not None:
        raise StackError(f"Expected no stack in {state}, found one that is up. Restore into another STUDIO_STATE_DIR.")
    if layout.has_data(settings):
        raise StackError(
            f"Expected no stack in {state}, found the data of one, over which nothing is written. Move it away (`mv "
            f"{state} {state}.old`), or let STUDIO_STATE_DIR name a new folder."
        )


def _require_empty_services(settings: StackSettings, manifest: Manifest, mark: Mark) -> None:
    """Check what this restore did not find empty before, and then write down that it is ours to fill."""
    server, store = _server_elsewhere(settings), _store_elsewhere(settings)
    if server not in mark.found_empty:
        for database in manifest.databases:
            if not databases.is_elsewhere(settings, database):
                databases.require_empty(settings, database)
    if store not in mark.found_empty:
        for bucket in set(objects.list_buckets()) & set(manifest.buckets):
            if objects.has_objects(bucket):
                raise StackError(
                    f"Expected no object in bucket {bucket!r} of {settings.environment['AWS_ENDPOINT_URL']}, found "
                    f"some. A restore writes over nothing: let AWS_ENDPOINT_URL name another store."
                )
    found_empty = mark.found_empty | {*filter(None, (server, store))}
    written = mark.model_copy(update={"found_empty": found_empty})
    write_private(settings.state_dir / layout.RESTORING, written.model_dump_json())


def _server_elsewhere(settings: StackSettings) -> str | None:
    return databases.server_address(settings) if settings.postgres_url else None


def _store_elsewhere(settings: StackSettings) -> str | None:
    return settings.environment["AWS_ENDPOINT_URL"] if settings.is_elsewhere("AWS_ENDPOINT_URL") else None


def _restore_databases(
    settings: StackSettings, source: BackupFolder, manifest: Manifest, mark: Mark, say: Echo
) -> None:
    is_ours = _server_elsewhere(settings) in mark.found_empty
    for database, blob in manifest.databases.items():
        if databases.is_elsewhere(settings, database):
            say(f"  database {database} is not restored: the environment names its server elsewhere")
            continue
        if is_ours and databases.has_tables(settings, database):
            say(f"  database {database} is whole since an attempt before")
            continue
        databases.restore(settings, database, source.blobs.require(blob))
        say(f"  database {database}: {blob.size / 1e6:.1f} MB")
    if "studio" in manifest.databases:
        databases.end_sessions(settings, f"restored from backup {mark.backup}")
        say(
            f"  accounts, tokens and keys are those of {_when(manifest)}: whom you have disabled or "
            f"removed since, do so again. All sessions have ended."
        )


def _restore_objects(settings: StackSettings, source: BackupFolder, manifest: Manifest, say: Echo) -> None:
    # Imported late: what prefect imports reads PREFECT_API_URL.
    from infra import stores

    stores.ensure_buckets(settings)
    admin = s3_client(settings, Role.ADMIN)
    for bucket in sorted({*manifest.buckets} - {*Bucket} - {*objects.list_buckets()}):  # that somebody has made
        admin.create_bucket(Bucket=bucket)
        if bucket in manifest.versioned:
            admin.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    done = objects.restore(
        source.blobs,
        source.objects(manifest),
        lambda done: say(f"  objects: {done.objects} of {done.size / 1e6:.1f} MB"),
    )
    for name in done.retagged[:10]:
        say(f"  {name} has another ETag than it had: what was known of it by that, such as a check, is made again")
    if more := len(done.retagged[10:]):
        say(f"  and {more} more")
