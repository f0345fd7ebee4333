"""Archives: checked, uploaded, listed and compared."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
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
    for command in (check, upload, export, datasets, diff):
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


def export(
    archive: Annotated[str, typer.Argument(help="A zip of this disk, or a key in bucket datasets.")],
    to: Annotated[Path | None, typer.Option(help="The file to write; <name>-coco.zip here without.")] = None,
    as_json: AsJson = False,
    annotations: Annotated[str, typer.Option("--format", help="coco, which all tools read.")] = "coco",
) -> None:
    """Write an archive in the format of other tools: images, boxes, polygons, keypoints and splits as COCO."""
    if annotations != "coco":
        raise typer.BadParameter(f"expected coco, found {annotations!r}", param_hint="--format")
    from tasks.importing.coco_archive import write_coco

    target = to or Path(f"{Path(archive).stem}-coco.zip")
    with _local_file(archive) as source:
        summary = write_coco(source, target)
    if as_json:
        print_json({"written": str(target), **asdict(summary)})
        return
    images = ", ".join(f"{split} {count}" for split, count in summary.images.items())
    sys.stdout.write(f"{target}: {summary.annotations} annotations of images in {images}\n")
    sys.stdout.writelines(f"{count} {change}\n" for change, count in summary.changes.items())


@contextmanager
def _local_file(archive: str) -> Iterator[Path]:
    """Yield a file of this disk, or a copy of what a key in bucket `datasets` names."""
    if Path(archive).is_file():
        yield Path(archive)
        return
    from studio.connection import connect

    connect()
    from tasks.storage.object_names import Bucket
    from tasks.storage.object_store import ObjectStore
    from tasks.storage.steps import object_name, require_object

    name = object_name(archive, Bucket.DATASETS)
    require_object(name, "an archive of this disk or of the object store", "`studio datasets` lists them.")
    with TemporaryDirectory(prefix="export-") as folder:
        path = Path(folder) / "archive.zip"
        ObjectStore(name.bucket).download(name.key, path)
        yield path


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
