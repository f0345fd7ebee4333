"""The command `studio`: everything a person does here, in a terminal."""

import os
import sys

import typer

from studio.commands import accounts, backups, data, flows, init, logs, machines, models, runs, stack
from studio.output import ERR, ExitCode
from tasks.errors import StudioError

app = typer.Typer(
    name="studio",
    help="Zips of labelled images in, a YOLO model that serves traffic out. docs/command-line.md has more.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (stack, backups, data, models, flows, runs, logs, accounts, machines, init):
    group.add_commands(app)


def main() -> None:
    """Run the command line, and end with one of `ExitCode`."""
    os.umask(0o077)
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except StudioError as error:
        ERR.print(str(error), style="red", markup=False)
        sys.exit(ExitCode.AWAY if error.transient else ExitCode.NOT_WELL)
    except RuntimeError as error:  # the stack did not start
        ERR.print(str(error), style="red", markup=False)
        sys.exit(ExitCode.NOT_WELL)
    except OSError as error:
        ERR.print(f"{type(error).__name__}: {error}\n`studio status` shows the services and their logs.", markup=False)
        sys.exit(ExitCode.AWAY)
    except Exception as error:
        if not _is_service_error(error):
            raise
        ERR.print(f"{type(error).__name__}: {error}\n`studio status` shows the services and their logs.", markup=False)
        sys.exit(ExitCode.AWAY)


def _is_service_error(error: Exception) -> bool:
    """Whether a client of a service raised it; imported only now, because these clients take a second to import."""
    import httpx
    import psycopg2
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, (BotoCoreError, ClientError, httpx.HTTPError, psycopg2.Error))
