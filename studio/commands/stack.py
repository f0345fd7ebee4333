"""The local stack."""

import contextlib
import os
import socket
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studio.commands.options import AsJson
from studio.output import ERR, OUT, ExitCode, print_json, print_table

if TYPE_CHECKING:
    from infra.stack_settings import StackSettings


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (up, down, status, worker, demo):
        app.command(rich_help_panel="The stack")(command)
    app.command("rotate-keys", rich_help_panel="The stack")(rotate_keys)
    app.command("open", rich_help_panel="The stack")(open_page)


def up(
    review: Annotated[
        bool | None, typer.Option("--review/--no-review", help="With or without Label Studio; kept for later starts.")
    ] = None,
    live_log: Annotated[
        bool | None,
        typer.Option(
            "--live-log/--no-live-log",
            help="With or without a sample of the live predictions for `monitor-model`; kept for later starts.",
        ),
    ] = None,
    tritons: Annotated[
        int | None, typer.Option(min=1, max=9, help="How many Tritons run here, one beside the other; kept.")
    ] = None,
    public: Annotated[
        bool | None,
        typer.Option(
            "--public/--no-public", help="With or without accounts and the front door; kept for later starts."
        ),
    ] = None,
    metrics: Annotated[
        bool | None,
        typer.Option(
            "--metrics/--no-metrics", help="With or without Prometheus and its alerts; kept for later starts."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the local stack, with the data it had."""
    from infra import stack
    from infra.stack_settings import StackSettings

    if review is not None:
        os.environ["STUDIO_REVIEW"] = str(review).lower()
    if public is not None:
        os.environ["STUDIO_PUBLIC"] = str(public).lower()
    if metrics is not None:
        os.environ["STUDIO_METRICS"] = str(metrics).lower()
    if live_log is not None:
        known = StackSettings.load()
        folder = known.live_log_dir or known.state_dir / "live-log"
        os.environ["STUDIO_LIVE_LOG_DIR"] = str(folder) if live_log else ""
    if tritons is not None:
        os.environ["STUDIO_TRITONS"] = str(tritons)
    settings = stack.load_settings()
    stack.up(settings, (lambda _: None) if as_json else print)
    if as_json:
        print_json({"up": True, "services": stack.describe_services(settings)})


def down(as_json: AsJson = False) -> None:
    """Stop the local stack; its data stays in .studio. Runs that go on are carried on by the next `up`."""
    from infra import stack

    stopped = stack.down(stack.load_settings())
    if as_json:
        print_json({"up": False, "was_up": stopped})
    else:
        print("stack is down" if stopped else "stack was not up")


def status(as_json: AsJson = False) -> None:
    """Each service, its address and its health, and what ends or is old; exit code 1 if a service is not well."""
    from infra import stack
    from infra.backup import last_backup
    from infra.rotation.state import is_under_way

    settings = stack.load_settings()
    rows = stack.describe_services(settings)
    ending = _ending_tokens(settings)
    if as_json:
        last = last_backup.read(settings)
        known = {
            "last_backup": last and last.model_dump(mode="json"),
            "ending_worker_tokens": ending,
            "rotates_keys": is_under_way(settings.state_dir),
        }
        print_json({"services": rows, **known})
    else:
        columns = ("service", "health", "address", "process")  # the last ones need not fit
        print_table(columns, [[row[column] for column in columns] for row in rows])
        OUT.print(f"logs: {settings.state_dir / 'logs'}", markup=False)
        OUT.print(f"last backup: {last_backup.describe(settings)}", markup=False)
        for name, end in ending.items():
            until = f"{end.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            text = f"token of worker {name}: until {until}; `studio worker-env {name}` prints another"
            OUT.print(text, markup=False)
        if is_under_way(settings.state_dir):
            OUT.print(stack.CUT_SHORT, markup=False)
    if any(row["health"] not in {"well", ""} for row in rows):
        if not as_json:
            OUT.print("`studio up` starts what is down")
        raise typer.Exit(ExitCode.NOT_WELL)


def _ending_tokens(settings: "StackSettings") -> dict[str, datetime]:
    """Of workers elsewhere, those of the next 14 days and those that have ended; none while the database is away."""
    if not settings.public:
        return {}
    from infra.accounts.bootstrap import open_accounts
    from infra.accounts.errors import DatabaseAwayError
    from infra.accounts.tokens import worker_token_ends
    from infra.metrics.worker_token_source import WARNED

    with open_accounts(settings) as database, contextlib.suppress(DatabaseAwayError):
        ends = worker_token_ends(database)
        return {name: end for name, end in ends.items() if end < datetime.now(UTC) + WARNED}
    return {}


def rotate_keys(
    elsewhere: Annotated[
        bool,
        typer.Option(
            "--elsewhere", help="Also what files of worker-env and triton-env hold; all of them are printed again then."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give every password and key of the stack a new value while it is up; killed, it goes on when started again.

    Accounts, their sessions, tokens and keys of the object store stay. Of a stack that is down it changes the two that
    nothing else can: those of the supervisor and the front door.
    """
    from dataclasses import asdict

    from infra import stack
    from infra.rotation.rotating import rotate

    outcome = rotate(stack.load_settings(), (lambda _: None) if as_json else print, elsewhere=elsewhere)
    if as_json:
        print_json(asdict(outcome))


def worker(
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="By number: takes trainings, one at a time, on this GPU; `0+1` on both.")
    ] = None,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", help="Takes the runs of this work queue alone; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most runs at one time.")] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that runs have to end after Ctrl-C or SIGTERM.")] = 5,
) -> None:
    """Carry out runs until Ctrl-C, beside the workers of the stack or on another machine.

    Without --gpu and --queue it takes all runs but trainings; where no Triton is known, those that need none. What has
    not ended in time goes to another worker.
    """
    from infra.services import worker_command, worker_process_environment
    from infra.stack import load_settings
    from infra.stack_settings import ROOT
    from infra.supervisord import STACK_ENV_VAR
    from infra.temporary import make_temporary_folder
    from studio.connection import connect

    connect(needs_triton=False)
    settings = load_settings()
    has_triton = settings.is_elsewhere("TRITON_GRPC_URL") or (settings.state_dir / "env").is_file()
    command = worker_command(settings, gpus=gpu or "", queues=queue or [], limit=limit, has_triton=has_triton)
    of = (settings.comes_by_front_door and os.environ.get("MLFLOW_TRACKING_USERNAME")) or socket.gethostname()
    make_temporary_folder(settings)
    os.chdir(ROOT)
    environment = worker_process_environment(settings) | {STACK_ENV_VAR: str(settings.state_dir)}
    os.execve(command[0], [*command, "--name", f"{of}-{os.getpid()}", "--drain", str(drain)], environment)  # noqa: S606


def open_page(as_json: AsJson = False) -> None:
    """Open the front page in a browser, and print its address."""
    from infra import stack
    from studio.connection import connect

    connect()
    settings = stack.load_settings()
    address = f"http://127.0.0.1:{settings.live_port}"
    if as_json:
        print_json({"address": address})
        return
    print(address)
    ERR.print(f"user studio, password: STUDIO_PASSWORD in {settings.state_dir / 'env'}", markup=False)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)


def demo(
    archives: Annotated[
        list[Path] | None, typer.Option(help="Dataset archives; drawn shapes if there are none.")
    ] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Images, zips of images and videos to infer over.")] = None,
    base_model: Annotated[str | None, typer.Option(help="A .pt file, or an Ultralytics name.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    imgsz: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Run the main job end to end on the local stack, which stays up."""
    from rich.console import Console

    from infra import demo as job
    from infra import stack

    console = Console(highlight=False)
    settings = stack.load_settings()
    stack.up(settings, console.print)
    chosen = job.plan(
        settings,
        archives=archives or [],
        media=images or [],
        base_model=base_model,
        model_name=model,
        training={"epochs": epochs, "imgsz": imgsz},
    )
    job.Demo(settings, console).run(chosen)
