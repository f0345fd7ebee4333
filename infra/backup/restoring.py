"""A backup, put into an empty stack."""

import shutil
from collections.abc import Callable
from pathlib import Path

from infra import layout, stack, supervisord
from infra.backup import databases, last_backup, objects, state_files
from infra.backup.data_services import data_services
from infra.backup.manifests import BackupFolder, Manifest
from infra.command_errors import StackError
from infra.identities import Role
from infra.services import s3_client
from infra.stack_settings import StackSettings, write_private
from tasks.storage.object_names import Bucket

Echo = Callable[[str], None]


def restore(settings: StackSettings, folder: Path, name: str | None, say: Echo) -> Manifest:
    """Put a backup of a folder, the newest if none is named, into a state folder that has no data.

    A restore that was cut short is begun anew; until one has ended no stack starts from the state folder. Secrets and
    settings that are there stay, and so do services elsewhere that the environment names.

    Raises:
        StackError: There is no such backup, it is damaged or of a newer release, or there is data already.
        StorageError: The object store does not answer, or refuses an object.
    """
    source = BackupFolder(folder.resolve())
    name, manifest = source.read(name)
    layout.require_not_newer(manifest.layout, manifest.release, f"backup {name}")
    _require_empty_state(settings)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_begun = (settings.state_dir / layout.RESTORING).exists()
    write_private(settings.state_dir / layout.RESTORING, name)
    for made in ("postgres", "s3"):  # by a restore that was cut short
        shutil.rmtree(settings.state_dir / made, ignore_errors=True)
    state_files.restore(settings, source.blobs, manifest.files)
    settings = StackSettings.load()
    say(f"backup {name} of release {manifest.release}: {manifest.objects} objects of {manifest.size / 1e6:.1f} MB")
    with data_services(settings):
        if not is_begun:
            _require_empty_services(settings, manifest)
        for database, blob in manifest.databases.items():
            if databases.is_elsewhere(settings, database):
                say(f"  database {database} is not restored: the environment names its server elsewhere")
                continue
            databases.restore(settings, database, source.blobs.require(blob))
            say(f"  database {database}: {blob.size / 1e6:.1f} MB")
        _restore_objects(settings, source, manifest, say)
    layout.write(settings, layout.Layout(layout=manifest.layout, release=manifest.release, servers=manifest.servers))
    last_backup.write(settings, name, source.folder, manifest.taken)  # what is here now is in it
    (settings.state_dir / layout.RESTORING).unlink()
    return manifest


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


def _require_empty_services(settings: StackSettings, manifest: Manifest) -> None:
    for database in manifest.databases:
        if not databases.is_elsewhere(settings, database):
            databases.require_empty(settings, database)
    for bucket in set(objects.list_buckets()) & set(manifest.buckets):
        if objects.has_objects(bucket):
            raise StackError(
                f"Expected no object in bucket {bucket!r} of {settings.environment['AWS_ENDPOINT_URL']}, found some. A "
                f"restore writes over nothing: let AWS_ENDPOINT_URL name another store."
            )


def _restore_objects(settings: StackSettings, source: BackupFolder, manifest: Manifest, say: Echo) -> None:
    # Imported late: what prefect imports reads PREFECT_API_URL.
    from infra import bootstrap

    bootstrap.ensure_buckets(settings)
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
