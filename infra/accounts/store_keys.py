"""Keys of accounts in the object store follow the accounts: another role, shut, removed."""

import sys

from infra.accounts.database import Database
from infra.accounts.people import find_account, list_accounts
from infra.accounts.roles import UserRole
from infra.person_keys import Taken, follow_accounts, has_keys
from infra.stack_settings import StackSettings
from tasks.errors import StudioError, expected_found_fix, safe_repr

EVERY_S = 10.0


def role_of(database: Database, name: str) -> UserRole:
    """Return the role of an account that is open.

    Raises:
        StudioError: There is none of that name, or it is disabled.
    """
    account = find_account(database, name)
    if account is None or account.disabled:
        found = "one that is disabled" if account else f"none of name {safe_repr(name)}"
        raise StudioError(expected_found_fix("an account that is open", found, "`studio users` lists all accounts."))
    return account.role


def update_keys(settings: StackSettings, database: Database) -> Taken:
    """Let the keys do what the accounts may now.

    Raises:
        AccountError: The database is away.
        StudioError: The object store has not been told, or takes a key still that it should not.
        OSError: A file cannot be written.
    """
    if not has_keys(settings):
        return Taken.NOTHING
    accounts = list_accounts(database)
    return follow_accounts(settings, {each.name: each.role for each in accounts if not each.disabled})


def follow(settings: StackSettings, database: Database) -> None:
    """Update the keys; errors are written to the log, and the next call tries again."""
    try:
        update_keys(settings, database)
    except (StudioError, OSError, ValueError) as error:
        sys.stderr.write(f"keys of the object store do not follow the accounts now: {error}\n")
