"""Runs of flows: listed, followed, cancelled, given back to a worker."""

import getpass
from typing import Annotated

import typer

from studio.commands.options import AsJson
from studio.output import OUT, describe_run, follow, print_json
from studio.runs import Run

Name = Annotated[str, typer.Option(help="Who answers.", default_factory=getpass.getuser, show_default="your login")]
Comment = Annotated[str, typer.Option(help="Why; it is kept with the version.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a flow run.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (logs, cancel, retry, approve, refuse):
        app.command(rich_help_panel="Runs")(command)


def logs(
    run: RunId,
    follow_on: Annotated[bool, typer.Option("--follow", help="Go on until the run has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log of a run."""
    chosen = Run(run)
    if follow_on and not as_json:
        follow(chosen, "the run goes on")
        return
    if follow_on:
        chosen.wait()
    lines = chosen.logs()
    if as_json:
        print_json([{"time": line.time, "level": line.level, "text": line.text} for line in lines])
        return
    for line in lines:
        OUT.print(f"{line.time:%H:%M:%S} {line.text}", markup=False)


def cancel(run: RunId, as_json: AsJson = False) -> None:
    """Cancel a run; what it kept stays, and `studio retry` carries it on."""
    _change(Run(run), "cancel", as_json=as_json)


def retry(run: RunId, as_json: AsJson = False) -> None:
    """Give a run that has ended back to a worker, which carries it on."""
    _change(Run(run), "retry", as_json=as_json)


def approve(run: RunId, name: Name, comment: Comment = "", as_json: AsJson = False) -> None:
    """Let a deployment go on that waits for approval."""
    _answer(Run(run), True, name, comment, as_json=as_json)


def refuse(run: RunId, name: Name, comment: Comment = "", as_json: AsJson = False) -> None:
    """End a deployment that waits for approval; clients keep the champion."""
    _answer(Run(run), False, name, comment, as_json=as_json)


def _answer(run: Run, approved: bool, name: str, comment: str, *, as_json: bool) -> None:
    run.answer(approved, name, comment)
    if as_json:
        print_json(describe_run(run))
    else:
        OUT.print(f"{run.id}: {'approved' if approved else 'refused'} by {name}", markup=False)


def _change(run: Run, action: str, *, as_json: bool) -> None:
    state = run.cancel() if action == "cancel" else run.retry()
    if as_json:
        print_json(describe_run(run))
    else:
        OUT.print(f"{run.id}: {state}", markup=False)
