"""Keys of people in the local object store: one an account, with what its role may do there.

They lie in a file of the state folder. The store reads its identities again on SIGHUP: no request is lost meanwhile. It
forgets no identity until it is started again, so one that is taken away stays, with a secret that nobody has.
"""

import fcntl
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace

from infra import supervisord
from infra.accounts.roles import UserRole
from infra.identities import PersonKey, identities
from infra.rotation.state import accepted
from infra.stack_settings import StackSettings, write_private
from tasks.errors import StudioError, expected_found_fix

_Keys = Mapping[str, PersonKey]


def read_keys(settings: StackSettings) -> dict[str, PersonKey]:
    """Return the keys of people, by the names of their accounts."""
    return {name: key for name, key in _read(settings).items() if not key.is_taken}


def _read(settings: StackSettings) -> dict[str, PersonKey]:
    path = settings.state_dir / "person-keys.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    return {
        name: PersonKey(name=name, **{**each, "role": UserRole.parse(each["role"])}) for name, each in known.items()
    }


def give_key(settings: StackSettings, name: str, role: UserRole) -> PersonKey:
    """Make a key for an account, in the place of the one that it had; it opens the store at once.

    Raises:
        StudioError: The object store is not one of this machine.
    """
    if settings.is_elsewhere("AWS_ENDPOINT_URL"):
        found = settings.environment["AWS_ENDPOINT_URL"]
        raise StudioError(expected_found_fix("the object store of this machine", found, "Make the key there."))
    made = PersonKey(name=name, role=role, key=secrets.token_hex(16), secret=secrets.token_hex(20))
    _change(settings, lambda known: {**known, name: made})
    return made


def follow_accounts(settings: StackSettings, roles: Mapping[str, UserRole]) -> None:
    """Let each key do what the role of its account may now; those of accounts that are not in `roles` open nothing."""

    def changed(known: _Keys) -> _Keys:
        return {name: _with_role(key, roles.get(name)) for name, key in known.items()}

    _change(settings, changed)


def _with_role(key: PersonKey, role: UserRole | None) -> PersonKey:
    if key.is_taken or key.role is role:
        return key
    return replace(key, role=role) if role else replace(key, secret=secrets.token_hex(20), is_taken=True)


def take_key(settings: StackSettings, name: str) -> None:
    """Remove the key of an account, if it has one: the store refuses it at once."""

    def changed(known: _Keys) -> _Keys:
        return {**known, name: _with_role(known[name], None)} if name in known else known

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
        entries = {name: asdict(key) | {"role": str(key.role)} for name, key in wanted.items()}
        for entry in entries.values():
            del entry["name"]
        write_private(settings.state_dir / "person-keys.json", json.dumps(entries))
        write_identities(settings)
    supervisord.signal_service(settings, "object-store", "HUP")
