"""What the services and the flow runs have logged."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from studio.commands.options import AsJson
from studio.output import ERR, ExitCode, follow
from studio.runs import Run
from tasks.errors import StudioError

if TYPE_CHECKING:
    from infra.logs.lines import Line
    from infra.logs.query import Query

RECENT = "10m"  # what is shown if nothing is asked for
_ASKED_EVERY_S = 2.0
_LATE_S = 5.0  # lines of a run that has ended may still be on their way


def add_commands(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Runs")(logs)


def logs(
    run: Annotated[str | None, typer.Argument(help="Id of a flow run: what all services say of it.")] = None,
    model: Annotated[str, typer.Option(help="Lines about a model, and those of runs about it.")] = "",
    archive: Annotated[str, typer.Option(help="Lines about an archive, and those of runs about it.")] = "",
    request: Annotated[str, typer.Option(help="Lines of a request, by its X-Request-Id.")] = "",
    since: Annotated[str, typer.Option(help="From then on: 10m, 2h, 3d (ago), or a time, in UTC.")] = "",
    until: Annotated[str, typer.Option(help="Before then, said in the same way.")] = "",
    service: Annotated[list[str] | None, typer.Option(help="Such as triton, or flow for what runs say.")] = None,
    level: Annotated[str, typer.Option(help="debug | info | warning | error | critical, and graver ones.")] = "info",
    text: Annotated[str, typer.Option(help="Lines that have this text, in capitals or not.")] = "",
    children: Annotated[bool, typer.Option("--children", help="Also the runs that the run has started.")] = False,
    follow_on: Annotated[
        bool, typer.Option("--follow", help="Go on as lines are written; of a run, to its end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print log lines of all services in order of time: of a run, a model, an archive, a request, or lately."""
    from infra.logs.query import Query, parse_time

    run = _run_id(run) if run else None
    if run and follow_on and not any((model, archive, request, since, until, service, text, children, as_json)):
        follow(Run(run), "the run goes on")
        return
    if not any((run, model, archive, request, since, until)):
        since = RECENT
        ERR.print(f"from the last {RECENT} on; --since shows more", markup=False)
    query = Query(
        runs=[run] if run else (),
        model=model,
        archive=archive,
        request=request,
        services=service or (),
        level=level,
        since=parse_time(since) if since else None,
        until=parse_time(until) if until else None,
        text=text,
    )
    folder, query, of_runs = _find_runs(query, children=children)
    if follow_on:
        ends = run is not None and of_runs is not None
        _print_each(_followed(folder, query, ends=ends), as_json=as_json)
    else:
        from infra.logs.reader import read_forwards

        _print_all(read_forwards(folder, query, of_runs or ()), as_json=as_json)


def _run_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"expected the id of a flow run, found {text!r}; `studio runs` lists ids") from None


def _find_runs(query: "Query", *, children: bool) -> "tuple[Path, Query, list[Line] | None]":
    """The folder of the logs, the query with the runs that Prefect knows for it, and Prefect's own lines of these.

    None for the lines if Prefect does not answer: the files are there to be read when nothing else is.
    """
    from infra.stack_settings import StackSettings

    folder = StackSettings.load().state_dir / "logs"
    if not (query.runs or query.model or query.archive):
        return folder, query, []
    from studio.connection import connect

    try:
        connect()
        from infra.logs import runs

        query = runs.add_runs_about(runs.add_children(query) if children else query)
        return folder, query, list(runs.read_run_log(query))
    except StudioError as error:
        ERR.print(f"only the files of {folder}, without what Prefect knows: {error}", markup=False)
        return folder, query, None


def _followed(folder: Path, query: "Query", *, ends: bool) -> "Iterator[Line]":
    from infra.logs.reader import follow as follow_files

    if not ends:
        return follow_files(folder, replace(query, until=None), lambda: False)
    return follow_files(folder, query, functools.partial(_have_ended, query, {"asked": 0.0, "ended": 0.0}))


def _have_ended(query: "Query", known: dict[str, float]) -> bool:
    """Whether the runs ended some seconds ago; Prefect is not asked each time."""
    from infra.logs import runs

    now = time.monotonic()
    if not known["ended"] and now - known["asked"] >= _ASKED_EVERY_S:
        known["asked"] = now
        with contextlib.suppress(StudioError):  # it may answer again
            known["ended"] = now if runs.is_over(query.runs) else 0.0
    return bool(known["ended"]) and now - known["ended"] >= _LATE_S


def _print_all(lines: "Iterator[Line]", *, as_json: bool) -> None:
    """Print lines, as one JSON document or as people read them."""
    if not as_json:
        _write(f"{line.to_words()}\n" for line in lines)
        return
    _write(["["])
    _write((",\n" if number else "\n") + line.to_json() for number, line in enumerate(lines))
    _write(["\n]\n"])


def _print_each(lines: "Iterator[Line]", *, as_json: bool) -> None:
    """Print each line as it comes: as JSON, an object a line."""
    for line in lines:
        _write([(line.to_json() if as_json else line.to_words()) + "\n"])
        sys.stdout.flush()


def _write(texts: Iterable[str]) -> None:
    """Write to standard output, whatever signs it knows; who reads it may stop at any time."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        for text in texts:
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        raise typer.Exit(ExitCode.DONE) from None
