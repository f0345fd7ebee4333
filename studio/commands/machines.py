"""What machines elsewhere are told, which work for this stack."""

from typing import TYPE_CHECKING, Annotated

import typer

from studio.commands.options import AsJson
from studio.connection import load_stack
from studio.output import print_json

if TYPE_CHECKING:
    from tasks.triton_targets import TritonTarget

CERTIFICATES = "/etc/yolo-studio/certificates.pem"
_TARGET = "127.0.0.1:8001/127.0.0.1:8000"
_STORE = "http://127.0.0.1:9000"  # at the end of a tunnel


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("worker-env", rich_help_panel="The stack")(worker_env)
    app.command("triton-env", rich_help_panel="The stack")(triton_env)


def worker_env(
    name: Annotated[str, typer.Argument(help="Of the machine; it becomes that of its account.")],
    days: Annotated[int, typer.Option(min=1, max=366, help="After which the token opens nothing any more.")] = 90,
    triton: Annotated[
        str,
        typer.Option(help="GRPC/HTTP, by which that machine reaches a Triton of this stack; without, it needs none."),
    ] = "",
    certificates: Annotated[
        str,
        typer.Option(help="File of that machine with the certificates that it trusts, that of this stack included."),
    ] = CERTIFICATES,
    as_json: AsJson = False,
) -> None:
    """Print the variables with which a machine elsewhere runs `studio worker` for this stack, through the front door.

    It gets an account of its own, with role worker, and another token and other keys each time: `studio users disable
    NAME` shuts it out.
    """
    from infra.accounts.bootstrap import open_accounts
    from infra.remote_machines import remote_worker_environment

    target = _target(triton, "--triton") if triton else None
    settings = load_stack()
    with open_accounts(settings) as database:
        found = remote_worker_environment(settings, database, name, days=days, certificates=certificates, triton=target)
    _print_environment(found, as_json=as_json)


def triton_env(
    name: Annotated[str, typer.Argument(help="Of that machine.")],
    target: Annotated[str, typer.Argument(help="GRPC/HTTP, where it listens on that machine.")] = _TARGET,
    store: Annotated[str, typer.Option(help="By which address that machine reaches the object store.")] = _STORE,
    take: Annotated[bool, typer.Option("--take", help="Take its key of the object store away instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the variables with which `python -m infra.triton` on a machine elsewhere serves this stack's models.

    It gets a key of the object store of its own, another one each time.
    """
    from infra.identities import Role
    from infra.person_keys import take_key
    from infra.remote_machines import remote_triton_environment

    where = _target(target, "TARGET")
    settings = load_stack()
    if take:
        print(f"{name}: {take_key(settings, name, Role.TRITON)}")
        return
    _print_environment(remote_triton_environment(settings, name, where, store), as_json=as_json)


def _print_environment(found: dict[str, str], *, as_json: bool) -> None:
    from infra.environment import to_env_file

    if as_json:
        print_json(found)
    else:
        print(to_env_file(found), end="")


def _target(text: str, option: str) -> "TritonTarget":
    from tasks.triton_targets import parse_targets

    try:
        targets = parse_targets(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    if len(targets) != 1 or targets[0].by_dns:
        raise typer.BadParameter(f"expected one GRPC/HTTP, found {text[:200]!r}", param_hint=option)
    return targets[0]
