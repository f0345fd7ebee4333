"""Models, their versions, what runs of inference have left, and what was made from what."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studio.commands.options import AsJson, Cursor, Limit
from studio.output import ERR, print_json, print_page, print_table

if TYPE_CHECKING:
    from tasks.catalogue.entries import ModelEntry, PredictionEntry


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (models, predictions, lineage):
        app.command(rich_help_panel="Models")(command)


def models(
    name: Annotated[str | None, typer.Argument(help="A model: list its versions.")] = None,
    search: Annotated[str, typer.Option(help="Part of the name, in any case.")] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: AsJson = False,
) -> None:
    """List the registered models, or the versions of one."""
    from studio.connection import connect

    connect()
    from tasks.catalogue.models import list_models, read_model

    if name is not None:
        _print_versions(read_model(name), as_json=as_json)
        return
    columns: dict[str, Callable[[ModelEntry], object]] = {
        "model": lambda model: model.name,
        "champion": lambda model: model.champion,
        "challenger": lambda model: model.challenger,
        "served": lambda model: _served(model.served),
        "versions": lambda model: len(model.versions),
    }
    empty = "none match" if search else "no models; `studio train NAME x.zip` makes one"
    print_page(list_models(cursor=cursor, limit=limit, search=search), columns, empty=empty, as_json=as_json)


def _print_versions(model: "ModelEntry", *, as_json: bool) -> None:
    from tasks.catalogue.entries import plain_values

    if as_json:
        print_json(plain_values(model))
        return
    print_table(
        ("version", "aliases", "served", "task", "scores", "parity", "made from", "created"),
        [
            (
                each.number,
                each.aliases,
                _served(each.served),
                each.task,
                tuple(f"{metric} {value:.3f}" for metric, value in each.scores.items()),
                each.parity,
                f"imported: {each.imported_from}" if each.imported_from else each.archives,
                each.created,
            )
            for each in model.versions
        ],
    )


def predictions(
    model: Annotated[str, typer.Option(help="Those with this model alone.")] = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    as_json: AsJson = False,
) -> None:
    """List the runs of inference, the newest first."""
    from studio.connection import connect

    connect()
    from tasks.catalogue.predictions import list_predictions

    columns: dict[str, Callable[[PredictionEntry], object]] = {
        "run": lambda run: run.run,
        "model": lambda run: run.model,
        "version": lambda run: run.version,
        "ended": lambda run: run.created,
        "images": lambda run: run.images,
        "detections": lambda run: run.detections,
        "failures": lambda run: run.failures,
    }
    empty = "no predictions; `studio infer MODEL street/` makes some"
    print_page(list_predictions(cursor=cursor, limit=limit, model=model), columns, empty=empty, as_json=as_json)


def lineage(
    name: Annotated[str, typer.Argument(help="An archive, a model, a version such as shapes/3, or the id of a run.")],
    picture: Annotated[Path | None, typer.Option(help="Write the graph to this file, as SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a thing was made from, and what was made from it."""
    from studio.connection import connect

    connect()
    from tasks.catalogue.lineage import trace

    found = trace(name)
    if picture:
        picture.write_text(found.to_svg(), encoding="utf-8")
        ERR.print(f"picture: {picture}", markup=False)
    if as_json:
        print_json(found.to_json())
    else:
        sys.stdout.write(found.to_text())


def _served(served: bool | None) -> str:
    return {True: "yes", False: "no", None: "Triton is away"}[served]
