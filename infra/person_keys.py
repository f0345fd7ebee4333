"""Keys of the local object store that were given away: one an account, with what its role may do there.

A worker elsewhere has a second one, to sign links with, and a Triton elsewhere one of its own: none of them is a key of
the stack, and a rotation leaves them alone. They lie in a file of the state folder. The store reads its identities
again on SIGHUP: no request is lost meanwhile. It forgets no identity until it is started again, so one that is taken
away stays, with a secret that nobody has.
"""

import fcntl
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from infra import supervisord
from infra.accounts.roles import UserRole
from infra.identities import GivenKey, Role, identities
from infra.rotation.state import accepted
from infra.stack_settings import StackSettings, write_private
from tasks.errors import StudioError, expected_found_fix

_Keys = Mapping[str, GivenKey]  # by the name of the account, or `ROLE/NAME`, which no account is called


def read_keys(settings: StackSettings) -> dict[str, GivenKey]:
    """Return the keys of accounts, by their names; others are under `ROLE/NAME`."""
    return {id_: key for id_, key in _read(settings).items() if not key.is_taken}


def _read(settings: StackSettings) -> dict[str, GivenKey]:
    path = settings.state_dir / "person-keys.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    return {id_: _parse(id_, entry) for id_, entry in known.items()}


def _parse(id_: str, entry: Mapping[str, Any]) -> GivenKey:
    role, _, name = id_.rpartition("/")
    return GivenKey(name=name, **{**entry, "role": Role(role) if role else UserRole.parse(entry["role"])})


def _id(name: str, role: UserRole | Role) -> str:
    return f"{role}/{name}" if isinstance(role, Role) else name


def give_key(settings: StackSettings, name: str, role: UserRole | Role) -> GivenKey:
    """Make a key, in the place of the one that this name had for that; it opens the store at once.

    Args:
        settings: Of the stack.
        name: Of an account, or of a Triton elsewhere.
        role: That of the account; or LINKS for the links of its runs, or TRITON.

    Raises:
        StudioError: The object store is not one of this machine.
    """
    if settings.is_elsewhere("AWS_ENDPOINT_URL"):
        found = settings.environment["AWS_ENDPOINT_URL"]
        raise StudioError(expected_found_fix("the object store of this machine", found, "Make the key there."))
    made = GivenKey(name=name, role=role, key=secrets.token_hex(16), secret=secrets.token_hex(20))
    _change(settings, lambda known: {**known, _id(name, role): made})
    return made


def follow_accounts(settings: StackSettings, roles: Mapping[str, UserRole]) -> None:
    """Let each key do what the role of its account may now; those of accounts that are not in `roles` open nothing."""
    _change(settings, lambda known: {id_: _following(key, roles.get(key.name)) for id_, key in known.items()})


def _following(key: GivenKey, account: UserRole | None) -> GivenKey:
    if key.is_taken or key.role is Role.TRITON:
        return key
    if key.role is Role.LINKS:
        return key if account is UserRole.WORKER else _taken(key)
    return replace(key, role=account) if account else _taken(key)


def _taken(key: GivenKey) -> GivenKey:
    return replace(key, secret=secrets.token_hex(20), is_taken=True)


def take_key(settings: StackSettings, name: str, role: Role | None = None) -> None:
    """Remove a key, if there is one: the store refuses it at once.

    Args:
        settings: Of the stack.
        name: Of an account, or of a Triton elsewhere.
        role: TRITON for that of a Triton; none: all of the account.
    """
    ids = {_id(name, role)} if role else {name, _id(name, Role.LINKS)}

    def changed(known: _Keys) -> _Keys:
        return {id_: _taken(key) if id_ in ids and not key.is_taken else key for id_, key in known.items()}

    _change(settings, changed)


def write_identities(settings: StackSettings) -> None:
    """Write the file of identities that the store reads."""
    # Not what this process has read once: keys may have been rotated since.
    text = json.dumps(identities(accepted(settings), _read(settings).values()))
    write_private(settings.state_dir / "s3.json", text)


def refresh_store(settings: StackSettings) -> None:
    """Have the store take the keys that are accepted now, and forget those of its roles that are not."""
    with _locked(settings):
        write_identities(settings)
    supervisord.signal_service(settings, "object-store", "HUP")


@contextmanager
def _locked(settings: StackSettings) -> Iterator[None]:
    with (settings.state_dir / "person-keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _change(settings: StackSettings, change: Callable[[_Keys], _Keys]) -> None:
    with _locked(settings):
        known = _read(settings)
        wanted = change(known)
        if wanted == known:
            return
        entries = {id_: asdict(key) | {"role": str(key.role)} for id_, key in wanted.items()}
        for entry in entries.values():
            del entry["name"]
        write_private(settings.state_dir / "person-keys.json", json.dumps(entries))
        write_identities(settings)
    supervisord.signal_service(settings, "object-store", "HUP")
