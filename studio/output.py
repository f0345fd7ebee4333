"""What the command prints: tables or one JSON document on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from studio.runs import Run, RunFailedError
from tasks.errors import StudioError

if TYPE_CHECKING:
    from tasks.catalogue.entries import Page
    from tasks.orchestration.questions import OpenQuestion

Entry = TypeVar("Entry")

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)
_WIDE = Console(highlight=False, width=10_000)  # in which no table wraps
LONGEST_CELL = 40  # characters, on a terminal


class ExitCode(IntEnum):
    """How a command ends; docs/command-line.md has the table."""

    DONE = 0
    NOT_WELL = 1
    USAGE = 2
    AWAY = 3
    INTERRUPTED = 130


def print_json(document: object) -> None:
    """Print one JSON document; times are ISO 8601."""
    sys.stdout.write(json.dumps(document, indent=2, default=_plain, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; values from outside are never read as markup.

    No cell is wrapped, so that names and ids can be copied. On a terminal long cells behind the first column are cut,
    and the last columns are left out that do not fit.
    """
    cells = [[_words(value) for value in row] for row in rows]
    shown = len(columns)
    if OUT.is_terminal:
        cells = [[first, *(_cut(text) for text in others)] for first, *others in cells]
        while shown > 1 and _width(_table(columns[:shown], cells)) > OUT.width:
            shown -= 1
    _WIDE.print(_table(columns[:shown], cells))
    if left_out := ", ".join(columns[shown:]):
        ERR.print(f"no room for: {left_out}; --json has them", markup=False)


def _table(columns: Sequence[str], cells: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns)
    for row in cells:
        table.add_row(*map(Text, row[: len(columns)]))
    return table


def _width(table: Table) -> int:
    return _WIDE.measure(table).maximum


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}\u2026"


def print_page(
    page: "Page[Entry]", columns: Mapping[str, Callable[[Entry], object]], *, empty: str, as_json: bool
) -> None:
    """Print a page of the catalogue, a column for each name; a page without entries prints `empty`."""
    from tasks.catalogue.entries import plain_values

    if as_json:
        print_json(plain_values(page))
        return
    print_table(list(columns), [[read(entry) for read in columns.values()] for entry in page.entries])
    if not page.entries:
        OUT.print(empty, markup=False)
    if page.next_cursor:
        ERR.print(f"more: --cursor {page.next_cursor}", markup=False)


def follow(run: Run, title: str) -> None:
    """Print the log of a run, what it asks a person, and a bar on a terminal, until it has completed.

    Raises:
        RunFailedError: It ended in another way.
        typer.Exit: It did, and the log has said how.
    """
    from tasks.orchestration.prefect_client import patient_client
    from tasks.orchestration.run_list import read_progress

    read, newest, asked, shown = 0, "", None, None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as progress:
        bar = progress.add_task(title, total=None)

        def show(run: Run) -> None:
            nonlocal read, newest, asked, shown
            lines = run.logs(read)
            read += len(lines)
            for line in lines:
                if not line.is_routine:
                    ERR.print(Text(f"{line.time:%H:%M:%S} {line.text}"))
                    newest = line.text
            if (question := run.question) and question.run != asked:
                asked = question.run
                ERR.print(Text(_request(question)))
            if (review := run.review) and review != shown:
                shown = review
                ERR.print(Text(f"waits for people: {review}"))
            if ERR.is_terminal and (done := read_progress([run.id], patient_client).get(run.id)):
                progress.update(bar, completed=done.share, total=1.0)

        try:
            run.wait(follow=show)
        except RunFailedError as error:
            if newest and str(error).startswith(newest):
                raise typer.Exit(ExitCode.NOT_WELL) from error
            raise


def _request(question: "OpenQuestion") -> str:
    from tasks.settings import Settings

    page = f"{Settings().addresses.front_page}/runs"
    return (
        f"waits for a person: {question.summary} Answer on {page}, or with `studio approve {question.run}` or "
        f"`studio refuse {question.run}`."
    )


def describe_run(run: Run) -> dict[str, Any]:
    """Return what `--json` says of a run."""
    state = run.state
    return {"run": str(run.id), "url": run.url, "state": state.name, "message": state.message}


def finish(run: Run, title: str, *, wait: bool, as_json: bool, hint: str = "") -> None:
    """Follow a run to its end if `wait`, and print what became of it, with the addresses of the pages it has left.

    Of a run that is not followed, `hint` says how it goes on.

    Raises:
        RunFailedError: It did not complete.
        typer.Exit: It did not, and its log has said why.
        KeyboardInterrupt: The person has stopped following; the run goes on.
    """
    error: Exception | None = None
    if wait:
        ERR.print(Text(f"{title}: {run.url}"))
        try:
            follow(run, title)
        except Exception as failure:  # noqa: BLE001 - raised again below, once its JSON is printed
            error = failure
        except KeyboardInterrupt:
            ERR.print(
                Text(f"the run goes on: `studio logs {run.id} --follow` shows it, `studio cancel {run.id}` ends it")
            )
            raise
    pages = _pages(run) if wait else {}
    if as_json:
        print_json(describe_run(run) | {"pages": pages})
    elif error is None:
        state = run.state
        OUT.print(Text(f"{title}: {state.name}: {state.message}" if wait else f"{title}: {run.id} {run.url}"))
    if hint and not wait:
        ERR.print(Text(hint))
    if not as_json:
        for name, address in pages.items():
            OUT.print(Text(f"{name}: {address}"))
    if error:
        raise error


def _pages(run: Run) -> dict[str, str]:
    """The pages of a run that has ended; the store may be away without changing what became of it."""
    try:
        return run.pages
    except StudioError as error:
        ERR.print(Text(f"its pages are not known: {error}"))
        return {}


def _words(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case tuple() | list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
