"""Archives: checked, uploaded, listed and compared."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studio.commands.options import AsJson, Cursor, Limit
from studio.output import print_json, print_page
from tasks.errors import StudioError

if TYPE_CHECKING:
    from tasks.catalogue.entries import ArchiveEntry

UPLOAD_BUCKETS = ("datasets", "media", "base-models")


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (check, upload, datasets, diff):
        app.command(rich_help_panel="Archives")(command)


def check(
    archive: Annotated[Path, typer.Argument(help="A zip of this disk.")],
    as_json: AsJson = False,
    page: Annotated[Path | None, typer.Option(help="Write the page with figures and pictures to this file.")] = None,
    policy: Annotated[Path | None, typer.Option(help="A JSON file with fields of ValidationPolicy.")] = None,
) -> None:
    """Check a dataset on this disk, without a server: exit code 0 valid, 1 invalid, 2 no readable zip."""
    from infra.check import check_archive

    try:
        code = check_archive(archive, as_json=as_json, page=page, policy=policy)
    except StudioError as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(code)


def upload(
    files: Annotated[list[Path], typer.Argument(help="Files of this disk.")],
    as_json: AsJson = False,
    bucket: Annotated[str | None, typer.Option(help=f"{' | '.join(UPLOAD_BUCKETS)}; chosen by kind without.")] = None,
    prefix: Annotated[str, typer.Option(help="Folder in the bucket, such as street.")] = "",
    replace: Annotated[bool, typer.Option(help="Write over objects of that name.")] = False,
) -> None:
    """Put files into the object store: zips into datasets, images and videos into media, .pt into base-models."""
    if bucket not in {None, *UPLOAD_BUCKETS}:
        raise typer.BadParameter(
            f"expected one of {', '.join(UPLOAD_BUCKETS)}, found {bucket!r}", param_hint="--bucket"
        )
    from infra.stack import load_settings
    from infra.upload import bucket_of
    from infra.upload import upload as put
    from studio.connection import connect

    place = bucket or bucket_of(files)
    connect()
    addresses = [f"s3://{place}/{key}" for key in put(load_settings(), files, place, prefix, replace=replace)]
    if as_json:
        print_json({"uploaded": addresses})
    else:
        sys.stdout.write("".join(f"{address}\n" for address in addresses))


def datasets(
    search: Annotated[str, typer.Option(help="Part of the name, in any case.")] = "",
    verdict: Annotated[str | None, typer.Option(help="valid | valid-with-warnings | invalid | unchecked")] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: AsJson = False,
) -> None:
    """List the archives of bucket datasets, with what their check found."""
    from studio.connection import connect

    connect()
    from tasks.catalogue.archives import list_archives

    columns: dict[str, Callable[[ArchiveEntry], object]] = {
        "archive": lambda archive: archive.name,
        "verdict": lambda archive: archive.verdict,
        "task": lambda archive: archive.task,
        "images": lambda archive: archive.images,
        "classes": lambda archive: archive.classes,
        "MB": lambda archive: f"{archive.size / 1e6:.1f}",
        "checked": lambda archive: archive.checked,
        "versions": lambda archive: "MLflow is away" if archive.versions is None else archive.versions,
    }
    empty = "none match" if search or verdict else "no archives; `studio upload x.zip` puts one there"
    page = list_archives(cursor=cursor, limit=limit, search=search, verdict=verdict)
    print_page(page, columns, empty=empty, as_json=as_json)


def diff(
    before: Annotated[str, typer.Argument(help="An archive of bucket datasets.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Compare two archives: images added, removed, renamed and relabelled, labels by class."""
    from studio.connection import connect

    connect()
    from tasks.catalogue.difference import compare_archives

    difference = compare_archives(before, after)
    if as_json:
        print_json(difference.to_json())
    else:
        sys.stdout.write(f"{difference.to_text()}\n")
