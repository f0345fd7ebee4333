"""Runs of flows: listed, followed, cancelled, given back to a worker."""

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studio.commands.options import AsJson, Limit
from studio.output import ERR, OUT, describe_run, print_json, print_table
from studio.runs import Run

if TYPE_CHECKING:
    from tasks.orchestration.run_list import RunChoice

Name = Annotated[str, typer.Option(help="Who answers.", default_factory=getpass.getuser, show_default="your login")]
Comment = Annotated[str, typer.Option(help="Why; it is kept with the version.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a flow run.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (runs, cancel, retry, approve, refuse):
        app.command(rich_help_panel="Runs")(command)


def runs(
    waiting: Annotated[bool, typer.Option("--waiting", help="Those that wait for people: answers, reviews.")] = False,
    state: Annotated[str | None, typer.Option(help="waiting | running | completed | failed | cancelled")] = None,
    flow: Annotated[str | None, typer.Option(help="Such as train-model.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the runs that go on, then those that ended last, the newest first."""
    from studio.connection import connect

    connect()
    from prefect.client.schemas.objects import StateType

    from infra.front_page.runs import STATES
    from tasks.orchestration.outcome import NOTHING_NEW
    from tasks.orchestration.run_history import SKIPPED
    from tasks.orchestration.run_list import RunChoice

    if state not in {None, *STATES}:
        raise typer.BadParameter(f"expected one of {', '.join(STATES)}, found {state!r}", param_hint="--state")
    choice = RunChoice(
        flows=[flow] if flow else (),
        types=(StateType.PAUSED,) if waiting else STATES[state] if state else tuple(StateType),
        hidden=() if flow else (NOTHING_NEW, SKIPPED),
    )
    rows = [row for row in _list_rows(choice, limit) if row["asked_by"] == row["run"] or not waiting]
    if as_json:
        print_json({"runs": rows})
        return
    if waiting and not rows:
        ERR.print("No run waits for people. `studio runs` has those that go on, and what became of the others.")
    columns = ("run", "state", "flow", "about", "since")
    print_table(columns, [[row[column] for column in columns] for row in rows])
    for row in rows:
        if row["waits_for"]:
            answers = "" if row["is_review"] else " `studio approve {0}` or `studio refuse {0}`".format(row["asked_by"])
            OUT.print(f"{row['run']} waits for people: {row['waits_for']}{answers}", markup=False)


def _list_rows(choice: "RunChoice", limit: int) -> list[dict[str, Any]]:
    from infra.front_page.run_lines import run_lines
    from tasks.orchestration import questions, run_list

    found = run_list.list_unfinished(choice)[:limit]
    found += run_list.list_ended(choice, limit=limit - len(found)) if len(found) < limit else []
    waiting = run_list.find_waiting([run.state for run in found])
    reviews = {state.id: state.message for state in waiting.values() if state.place}
    asked = reviews | {question.run: question.summary for question in questions.list_open_questions()}
    asking = {run: state.id for run, state in waiting.items() if state.id in asked}
    return [
        {
            "run": line.run.id,
            "flow": line.run.flow,
            "about": line.subject,
            "state": line.run.state.state,
            "since": line.run.state.since,
            "says": line.newest,
            "waits_for": asked[asking[line.run.id]] if line.run.id in asking else None,
            "asked_by": asking.get(line.run.id),
            "is_review": asking.get(line.run.id) in reviews,
        }
        for line in run_lines(choice, found, None)
    ]


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
