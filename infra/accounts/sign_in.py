"""Signing in with name and password: a bound of what may fail, and nobody learns which names there are."""

from dataclasses import replace

from infra.accounts.attempts import Attempts, give_back_all, network_of, take_all
from infra.accounts.audit import Actor, AuditEntry, record_alone
from infra.accounts.database import Database
from infra.accounts.errors import RefusedSignInError, TooManyAttemptsError
from infra.accounts.names import is_name
from infra.accounts.passwords import is_password
from infra.accounts.people import PART, find_account, read_password
from infra.accounts.sessions import has_signed_in_from, open_session

UNKNOWN = "(unknown)"  # in the audit log: what stands in the field of the name may be a password
_QUARTER = 15 * 60.0


class SignIn:
    """Signs people in; failures are counted by name and address, by address, and by name.

    The last of these is for many addresses that guess at one name. It does not hold for an address from which that name
    has signed in before, so that nobody is locked out by others where they always are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_both = Attempts(5, 5 * 60.0)
        self._by_address = Attempts(30, _QUARTER)
        self._by_name = Attempts(20, _QUARTER)

    def open_session(self, name: str, password: str, client: Actor, browser: str) -> str:
        """Return the key of a new session.

        Raises:
            RefusedSignInError: Name and password are not those of an account that may sign in.
            TooManyAttemptsError: Too many have failed.
            DatabaseAwayError: Nobody can sign in.
        """
        self.require_password(name, password, client, "sign-in")
        account = find_account(self._database, name)
        actor = replace(client, name=name, role=str(account.role) if account else "")
        return open_session(self._database, actor, browser, "password")

    def require_password(self, name: str, password: str, client: Actor, action: str) -> None:
        """Return if name and password are those of an account that may sign in; `action` names it in the audit log.

        Raises:
            RefusedSignInError: They are not.
            TooManyAttemptsError: Too many have failed.
            DatabaseAwayError: Nobody can know.
        """
        name = name if is_name(name) else UNKNOWN
        place = network_of(client.address)
        counted = [(self._by_both, f"{place} {name}"), (self._by_address, place)]
        if not has_signed_in_from(self._database, name, client.address):
            counted.append((self._by_name, name))
        if wait := take_all(counted):
            raise TooManyAttemptsError(wait)
        try:
            is_right = is_password(password, read_password(self._database, name))
        except Exception:
            give_back_all(counted)  # nothing was guessed
            raise
        if is_right:
            give_back_all(counted)
            return
        known = name if find_account(self._database, name) else UNKNOWN
        failed = replace(client, name=known)
        record_alone(self._database, AuditEntry(actor=failed, part=PART, action=action, allowed=False))
        raise RefusedSignInError(
            "Expected name and password of an account, found others. If they are right, the account was disabled, or "
            "the password was handed over more than seven days ago: ask an admin."
        )
