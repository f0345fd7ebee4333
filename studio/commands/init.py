"""What a stack of containers needs beside its services: `studio init`."""

from pathlib import Path
from typing import Annotated

import typer

from studio.commands.options import AsJson
from studio.output import print_json

init = typer.Typer(no_args_is_help=True, help="What a stack of containers needs beside its services.")
Folder = Annotated[Path, typer.Argument(help="Folder with a file for each secret.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (secrets, environment, stores, prefect):
        init.command()(command)
    app.add_typer(init, name="init", rich_help_panel="The stack")


def secrets(folder: Folder = Path("secrets"), as_json: AsJson = False) -> None:
    """Make the secrets that are not there; those that are stay as they are."""
    from infra.initialization import make_secrets

    made = make_secrets(folder)
    if as_json:
        print_json({"made": made})
    else:
        print(f"{len(made)} secrets were made in {folder}; whoever reads it may do everything")


def environment(folder: Folder = Path("secrets"), as_json: AsJson = False) -> None:
    """Print the addresses and the key of a person, as `make up` writes them into .studio/env."""
    from infra.environment import to_env_file
    from infra.stack_settings import StackSettings

    variables = StackSettings(secrets_dir=folder).person_environment
    if as_json:
        print_json(variables)
    else:
        print(to_env_file(variables), end="")


def stores(as_json: AsJson = False) -> None:
    """Make databases and buckets that are missing, and publish model `predict`."""
    from infra.initialization import initialize_stores
    from infra.stack_settings import StackSettings

    initialize_stores(StackSettings.load())
    _say_done(as_json)


def prefect(as_json: AsJson = False) -> None:
    """Make or update work pool, queues, automations, deployments and pipelines."""
    from infra.initialization import initialize_prefect
    from infra.stack_settings import StackSettings

    initialize_prefect(StackSettings.load())
    _say_done(as_json)


def _say_done(as_json: bool) -> None:
    if as_json:
        print_json({"done": True})
    else:
        print("done")
