"""Archives: checked, uploaded, listed and compared."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from studio.commands.options import AsJson, Cursor, Limit
from studio.output import ERR, OUT, print_json, print_table
from tasks.errors import StudioError

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
    bucket: Annotated[str, typer.Option(help=" | ".join(UPLOAD_BUCKETS))] = "datasets",
    prefix: Annotated[str, typer.Option(help="Folder in the bucket, such as `street/`.")] = "",
    replace: Annotated[bool, typer.Option(help="Write over objects of that name.")] = False,
) -> None:
    """Put files into the object store: archives into bucket datasets, images and videos into media."""
    if bucket not in UPLOAD_BUCKETS:
        raise typer.BadParameter(
            f"expected one of {', '.join(UPLOAD_BUCKETS)}, found {bucket!r}", param_hint="--bucket"
        )
    from infra.stack import load_settings
    from infra.upload import upload as put

    addresses = [f"s3://{bucket}/{key}" for key in put(load_settings(), files, bucket, prefix, replace=replace)]
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
    from tasks.catalogue.entries import plain_values

    page = list_archives(cursor=cursor, limit=limit, search=search, verdict=verdict)
    if as_json:
        print_json(plain_values(page))
        return
    columns = ("archive", "verdict", "task", "images", "classes", "MB", "checked", "versions")
    print_table(
        columns,
        [
            (
                each.name,
                each.verdict,
                each.task,
                each.images,
                each.classes,
                f"{each.size / 1e6:.1f}",
                each.checked,
                "MLflow is away" if each.versions is None else each.versions,
            )
            for each in page.entries
        ],
    )
    if not page.entries:
        OUT.print("no archives; `studio upload x.zip` puts one there" if not search and not verdict else "none match")
    if page.next_cursor:
        ERR.print(f"more: --cursor {page.next_cursor}", markup=False)


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
