"""A backup, taken while people and runs go on working.

What has to fit together: a row of MLflow and its artifacts, a flow run and what it has left, the champion and what
Triton is told to serve. Objects are written before what refers to them, so in this order nothing is missing:

1. Look at all objects, and keep them. This may take hours, and whatever happens meanwhile is looked at again.
2. Put up the fence: no deletion and no rollout begins, and those under way have ended.
3. Keep each database as it is at one moment. All that its rows refer to was written before, and is not removed.
4. Look at the objects again, and keep what is new or has changed since; then the files of the state folder.
5. Take the fence down, and write the manifest: until then there is no backup.

An object that is new since the last look began is left out if the store has it from that second or a later one. Of two
objects of which one refers to the other the first may then be missing, but never the other.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from infra import layout
from infra.backup import databases, last_backup, objects, state_files
from infra.backup.manifests import FORMAT, BackupFolder, Manifest, ObjectEntry
from infra.backup.stack_id import ensure_stack_id, find_stack_id
from infra.command_errors import StackError
from infra.environment import apply_environment, worker_environment
from infra.stack_settings import StackSettings
from tasks.storage.object_names import Bucket

WAIT_S = 600.0  # for rollouts and deletions that are under way
SHORT_LOOK_S = 10.0
LOOKS = 3  # at most, before the fence and behind it
Echo = Callable[[str], None]


def take(
    settings: StackSettings, folder: Path, say: Echo, *, at_work: bool = True, wait_s: float = WAIT_S
) -> tuple[str, Manifest]:
    """Take a backup into a folder, which may hold others; returns its name and what it consists of.

    Args:
        settings: The stack.
        folder: Where to.
        say: Told each step.
        at_work: Whether anything but the databases and the object store runs.
        wait_s: For how many seconds to wait for rollouts and deletions that are under way.

    Raises:
        StackError: The folder cannot be written to, lies in the state folder, or pg_dump fails.
        StorageError: The object store does not answer, or a rollout or a deletion goes on for longer than that.
    """
    target = BackupFolder(folder.resolve())
    state = settings.state_dir.resolve()
    if target.folder.is_relative_to(state) or state.is_relative_to(target.folder):
        raise StackError(f"Expected a folder outside {state}, found {target.folder}: a backup belongs on another disk.")
    apply_environment(worker_environment(settings), local_store=not settings.is_elsewhere("AWS_ENDPOINT_URL"))
    with target.written():
        buckets = [
            name
            for name in objects.list_buckets()
            # A store elsewhere has buckets of other people.
            if name in {*Bucket} or settings.is_of_this_stack("AWS_ENDPOINT_URL")
        ]
        earlier = _earlier(target, find_stack_id(settings), say)
        if at_work:
            earlier = _look(target, buckets, earlier, say)
        with _fence(wait_s) if at_work else _no_fence() as require_unbroken:
            began = time.monotonic()
            manifest = _take_all(settings, target, buckets, earlier, say)
            require_unbroken()
            if at_work:
                say(f"  rollouts and deletions waited for {time.monotonic() - began:.0f} s")
        name = target.write(manifest)
        last_backup.write(settings, name, target.folder, manifest.taken)
        return name, manifest


def _earlier(target: BackupFolder, stack: str | None, say: Echo) -> dict[tuple[str, str, str | None], ObjectEntry]:
    """What the newest backup of this stack has, or of one that names none; a damaged one is no reason to take none."""
    for name in reversed(target.names()):
        try:
            _, manifest = target.read(name)
            if manifest.stack in {stack, None}:
                return objects.known(target.objects(manifest))
        except StackError as error:
            say(f"  backup {name} cannot be built upon: {error}")
    return {}


def _look(
    target: BackupFolder, buckets: list[str], earlier: dict[tuple[str, str, str | None], ObjectEntry], say: Echo
) -> dict[tuple[str, str, str | None], ObjectEntry]:
    """Keep the objects, again and again until a look is short: so the last one, behind the fence, is."""
    for _ in range(LOOKS):
        began = time.monotonic()
        found = objects.take(target.blobs, buckets, earlier)
        seconds = time.monotonic() - began
        say(f"  {_words(found, seconds)}")
        earlier = objects.known(found.entries)
        if seconds < SHORT_LOOK_S:
            break
    return earlier


def _take_all(
    settings: StackSettings,
    target: BackupFolder,
    buckets: list[str],
    earlier: dict[tuple[str, str, str | None], ObjectEntry],
    say: Echo,
) -> Manifest:
    names = databases.find_databases(settings)
    taken = datetime.now(UTC).replace(microsecond=0)
    began = time.monotonic()
    with databases.open_snapshots(settings, names) as snapshots:
        dumps = {name: target.blobs.add(databases.dump(settings, name, snapshots[name])) for name in names}
    size = sum(blob.size for blob in dumps.values())
    say(f"  databases {', '.join(names) or 'none'}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")
    # The store's clock tells seconds: what the databases know was written in an earlier one than the look begins in.
    time.sleep(max(0.0, began + 2 - time.monotonic()))
    for _ in range(LOOKS):
        began = time.monotonic()
        found = objects.take(target.blobs, buckets, earlier, objects.store_time())
        say(f"  {_words(found, time.monotonic() - began)}")
        if not found.gone:
            break
        # Such as a checkpoint: the next one was there before it went.
        earlier = objects.known(found.entries)
    files, left_out = state_files.take(settings, target.blobs)
    for name in left_out:
        say(f"  left out: {settings.state_dir / name}, which is no plain file")
    known = layout.read(settings)
    return Manifest(
        format=FORMAT,
        stack=ensure_stack_id(settings),
        layout=known.layout,
        release=known.release,
        servers=known.servers,
        taken=taken,
        databases=dumps,
        files=files,
        buckets=buckets,
        versioned=[bucket for bucket in buckets if objects.keeps_versions(bucket)],
        objects=sum(not entry.is_marker for entry in found.entries),
        size=sum(entry.size for entry in found.entries),
        index=target.write_index(found.entries),
        left_out=left_out,
    )


@contextmanager
def _fence(wait_s: float) -> Iterator[Callable[[], None]]:
    # Imported late: what prefect imports reads PREFECT_API_URL.
    from tasks.storage.fence import fence

    with fence(_is_at_work, wait_s) as require_unbroken:
        yield require_unbroken


@contextmanager
def _no_fence() -> Iterator[Callable[[], None]]:
    yield lambda: None


def _is_at_work(flow_run: str) -> bool:
    """Whether a flow run removes or changes something now; one that waits for a worker looks for the fence first."""
    from tasks.orchestration import deployed_flows

    try:
        run = deployed_flows.find(UUID(flow_run))
    except ValueError:
        return True
    return run is None or run.state is None or run.state.is_running() or run.state.is_cancelling()


def _words(found: objects.Pass, seconds: float) -> str:
    size = sum(entry.size for entry in found.entries)
    return (
        f"objects: {len(found.entries)} of {size / 1e6:.1f} MB in {seconds:.1f} s; "
        f"read {found.read} of {found.read_bytes / 1e6:.1f} MB"
    )
