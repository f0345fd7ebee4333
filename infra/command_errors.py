"""How the commands of this folder fail."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg2
from botocore.exceptions import BotoCoreError, ClientError


class StackError(RuntimeError):
    """A command of this folder failed; the message says what to do."""


@contextmanager
def exit_on_expected_errors() -> Iterator[None]:
    """End the program with the reason alone if a service, the network or the environment is to blame."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("\nstopped; what was started goes on: `make status` shows it, `make down` stops it")
    except RuntimeError as error:
        sys.exit(str(error))
    except (BotoCoreError, ClientError, httpx.HTTPError, psycopg2.Error, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}\n`make status` shows the services and where their logs are.")
