"""Keys of the local object store that were given away: one an account, with what its role may do there.

A worker elsewhere has a second one, to sign links with, and a Triton elsewhere one of its own: none of them is a key of
the stack, and a rotation leaves them alone. They lie in a file of the state folder. The store reads its identities
again on SIGHUP: no request is lost meanwhile. It forgets no identity until it is started again, so one that is taken
away stays, with a secret that nobody has.

What the store reads is written first, and the file here last, when the store has been told and refuses what was taken.
So a change that fails or is killed at any line is made by the next call, which compares what the store reads anyway.
"""

import fcntl
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra import supervisord
from infra.accounts.roles import UserRole
from infra.command_errors import StackError
from infra.identities import GivenKey, Role, identities
from infra.rotation.doors import opens_store
from infra.rotation.state import accepted
from infra.stack_settings import StackSettings, write_private
from tasks.errors import StudioError, expected_found_fix

_Keys = Mapping[str, GivenKey]  # by the name of the account, or `ROLE/NAME`, which no account is called
_REFUSED_AFTER_S = 10.0


class Taken(StrEnum):
    """What became of the keys that were to be taken, in words."""

    NOTHING = "no key of the object store is known"
    REFUSED = "the object store refuses the key that was taken"
    UNTRIED = "the key is taken, but not tried: the object store does not answer, and reads its keys when it starts"


def has_keys(settings: StackSettings) -> bool:
    """Return whether a key was ever given away, be it taken by now."""
    return _path(settings).exists()


def read_keys(settings: StackSettings) -> dict[str, GivenKey]:
    """Return the keys of accounts, by their names; others are under `ROLE/NAME`."""
    return {id_: key for id_, key in _read(settings).items() if not key.is_taken}


def _read(settings: StackSettings) -> dict[str, GivenKey]:
    path = _path(settings)
    known = json.loads(path.read_text()) if path.exists() else {}
    return {id_: _parse(id_, entry) for id_, entry in known.items()}


def _path(settings: StackSettings) -> Path:
    return settings.state_dir / "person-keys.json"


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
        StudioError: The object store is not one of this machine, or takes the former key still.
    """
    if settings.is_elsewhere("AWS_ENDPOINT_URL"):
        found = settings.environment["AWS_ENDPOINT_URL"]
        raise StudioError(expected_found_fix("the object store of this machine", found, "Make the key there."))
    made = GivenKey(name=name, role=role, key=secrets.token_hex(16), secret=secrets.token_hex(20))
    _change(settings, lambda known: {**known, _id(name, role): made})
    return made


def follow_accounts(settings: StackSettings, roles: Mapping[str, UserRole]) -> Taken:
    """Let each key do what the role of its account may now; those of accounts that are not in `roles` open nothing.

    Raises:
        StudioError: The store takes one of these still.
    """
    return _change(settings, lambda known: {id_: _following(key, roles.get(key.name)) for id_, key in known.items()})


def _following(key: GivenKey, account: UserRole | None) -> GivenKey:
    if key.is_taken or key.role is Role.TRITON:
        return key
    if key.role is Role.LINKS:
        return key if account is UserRole.WORKER else _taken(key)
    return replace(key, role=account) if account else _taken(key)


def _taken(key: GivenKey) -> GivenKey:
    return replace(key, secret=secrets.token_hex(20), is_taken=True)


def take_key(settings: StackSettings, name: str, role: Role | None = None) -> Taken:
    """Remove a key, if there is one: the store refuses it at once.

    Args:
        settings: Of the stack.
        name: Of an account, or of a Triton elsewhere.
        role: TRITON for that of a Triton; none: all of the account.

    Raises:
        StudioError: The store takes it still.
    """
    ids = {_id(name, role)} if role else {name, _id(name, Role.LINKS)}

    def changed(known: _Keys) -> _Keys:
        return {id_: _taken(key) if id_ in ids and not key.is_taken else key for id_, key in known.items()}

    return _change(settings, changed)


def write_identities(settings: StackSettings) -> None:
    """Write the file of identities that the store reads."""
    _write_identities(settings, _read(settings))


def _write_identities(settings: StackSettings, keys: _Keys) -> bool:
    """Returns whether there was another."""
    # Not what this process has read once: keys may have been rotated since.
    text = json.dumps(identities(accepted(settings), keys.values()))
    path = settings.state_dir / "s3.json"
    if path.exists() and path.read_bytes() == text.encode():
        return False
    write_private(path, text)
    return True


def refresh_store(settings: StackSettings) -> None:
    """Have the store take the keys that are accepted now, and forget those of its roles that are not."""
    with _locked(settings):
        write_identities(settings)
    _tell_store(settings)


def _tell_store(settings: StackSettings) -> None:
    supervisord.signal_service(settings, "object-store", "HUP")


@contextmanager
def _locked(settings: StackSettings) -> Iterator[None]:
    with (settings.state_dir / "person-keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _change(settings: StackSettings, change: Callable[[_Keys], _Keys]) -> Taken:
    with _locked(settings):
        known = _read(settings)
        wanted = change(known)
        is_other_file = _write_identities(settings, wanted)
        if is_other_file or wanted != known:
            _tell_store(settings)
        if wanted == known:
            return Taken.NOTHING
        former = [key for id_, key in known.items() if not key.is_taken and key.secret != wanted[id_].secret]
        outcome = _require_refused(settings, former)
        entries = {id_: asdict(key) | {"role": str(key.role)} for id_, key in wanted.items()}
        for entry in entries.values():
            del entry["name"]
        write_private(_path(settings), json.dumps(entries))
        return outcome


def _require_refused(settings: StackSettings, former: Iterable[GivenKey]) -> Taken:
    """Wait until the store, if it answers, refuses keys that it took before."""
    outcome, deadline = Taken.NOTHING, time.monotonic() + _REFUSED_AFTER_S
    for key in former:
        is_open = opens_store(settings, key.key, key.secret, attempts=1)
        try:
            while is_open():
                if time.monotonic() > deadline:
                    raise StackError(
                        f"Expected the object store to refuse the key that {key.name} had, found after "
                        f"{_REFUSED_AFTER_S:g} s that it takes it still, so the key counts as theirs. Take it while "
                        f"the stack is down: `studio down`, `studio users s3-key {key.name} --take` (of a Triton "
                        f"`studio triton-env {key.name} --take`), `studio up`."
                    )
                time.sleep(0.05)
        except (BotoCoreError, ClientError):
            return Taken.UNTRIED
        outcome = Taken.REFUSED
    return outcome
