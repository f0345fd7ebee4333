"""Backups of the whole stack, and the way from one release to the next."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studio.commands.options import AsJson
from studio.output import ERR, OUT, ExitCode, print_json, print_table

if TYPE_CHECKING:
    from infra.backup.manifests import Manifest

Folder = Annotated[Path, typer.Argument(help="A folder of backups, on another disk.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (backup, backups, restore, upgrade):
        app.command(rich_help_panel="The stack")(command)


def backup(
    to: Folder,
    keep: Annotated[int | None, typer.Option(min=1, help="Then remove all but the newest KEEP of this stack.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for rollouts and deletions under way.")] = 600,
    as_json: AsJson = False,
) -> None:
    """Take a backup of databases, objects, secrets and settings, while people and runs go on working.

    It holds secrets, so only its owner can read it. What an earlier backup of the folder has is not read again.
    """
    from infra import stack
    from infra.backup.manifests import BackupFolder, Pruning
    from infra.backup.taking import take
    from studio.connection import connect

    connect()
    name, manifest = take(stack.load_settings(), to, _echo(as_json), wait_s=wait)
    pruned = BackupFolder(to).keep_newest(keep, manifest.stack) if keep else Pruning([], 0, 0)
    if as_json:
        print_json({"backup": name, **_facts(manifest), **pruned._asdict()})
        return
    if pruned.removed:
        OUT.print(f"removed {len(pruned.removed)} earlier backups, {pruned.freed / 1e6:.1f} MB", markup=False)
    if pruned.others:
        OUT.print(f"{pruned.others} backups of other stacks, or that name none, stay", markup=False)
    OUT.print(f"backup {name} is in {to}; it holds secrets: whoever can read it can do everything", markup=False)


def backups(
    folder: Folder,
    verify: Annotated[bool, typer.Option("--verify", help="Read all files, and compare their SHA-256.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the backups of a folder; with --verify exit code 1 if a file of one is missing or damaged."""
    from infra.backup.manifests import BackupFolder

    source = BackupFolder(folder)
    rows = []
    for name in source.names():
        _, manifest = source.read(name)
        faults = [*source.verify(manifest)] if verify else []
        for fault in faults:
            ERR.print(f"{name}: {fault}", markup=False)
        rows.append({"backup": name, **_facts(manifest), **({"faults": faults} if verify else {})})
    if as_json:
        print_json({"backups": rows})
    else:
        columns = [column for column in ("backup", "release", "objects", "size", "stack") if rows]
        print_table(columns, [[row[column] for column in columns] for row in rows])
        if not rows:
            OUT.print(f"no backup in {folder}", markup=False)
        elif verify and not any(row["faults"] for row in rows):
            OUT.print("every file is as it was written", markup=False)
    if not rows or any(row.get("faults") for row in rows):
        raise typer.Exit(ExitCode.NOT_WELL)


def restore(
    source: Folder,
    name: Annotated[str | None, typer.Option("--backup", help="Which of them; the newest without.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into an empty state folder; `studio up` starts the stack then. Nothing is written over."""
    from infra import layout, stack
    from infra.backup.restoring import restore as put_back

    manifest = put_back(stack.load_settings(), source, name, _echo(as_json))
    if as_json:
        print_json(_facts(manifest))
        return
    old = layout.is_older(layout.Layout(layout=manifest.layout, release=manifest.release, servers=manifest.servers))
    OUT.print(f"restored; `studio {'upgrade FOLDER' if old else 'up'}` starts it", markup=False)


def upgrade(to: Folder, as_json: AsJson = False) -> None:
    """Move a stack of an earlier release to this one, after a backup of it into a folder, and start it."""
    from infra import stack
    from infra.upgrade import upgrade as move

    settings = stack.load_settings()
    move(settings, to, _echo(as_json))
    if as_json:
        print_json({"up": True, "services": stack.describe_services(settings)})


def _echo(as_json: bool) -> Callable[[str], None]:
    return (lambda _: None) if as_json else print


def _facts(manifest: "Manifest") -> dict[str, object]:
    return {
        "stack": manifest.stack,
        "taken": manifest.taken,
        "release": manifest.release,
        "layout": manifest.layout,
        "objects": manifest.objects,
        "size": manifest.size,
        "left_out": manifest.left_out,
    }
