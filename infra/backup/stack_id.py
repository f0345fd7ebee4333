"""Which stack a backup is of: the id that its state folder has from the first backup on.

A backup does not take it along, so a restored stack is another one: both may go on, with backups in one folder.
"""

import re
from typing import Annotated
from uuid import uuid4

from pydantic import Field

from infra.command_errors import StackError
from infra.stack_settings import StackSettings, write_private

FILE = "stack-id"
_FORM = "^[0-9a-f]{32}$"
StackId = Annotated[str, Field(pattern=_FORM)]


def find_stack_id(settings: StackSettings) -> str | None:
    """Return the id of a stack; None before its first backup.

    Raises:
        StackError: Its file is damaged.
    """
    path = settings.state_dir / FILE
    try:
        found = path.read_text(errors="replace")
    except FileNotFoundError:
        return None
    if not re.match(_FORM, found):
        raise StackError(
            f"Expected 32 hex digits in {path}, found {found[:40]!r}. Remove it: the next backup makes another id, "
            "and `--keep` leaves the earlier backups alone."
        )
    return found


def ensure_stack_id(settings: StackSettings) -> str:
    """Return the id of a stack, made now if it has none yet.

    Raises:
        StackError: Its file is damaged.
    """
    found = find_stack_id(settings)
    if found is None:
        found = uuid4().hex
        write_private(settings.state_dir / FILE, found)
    return found
