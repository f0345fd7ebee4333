"""API tokens: how programs show who they work for, with a role of their own and an end."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from infra.accounts.audit import Actor, AuditEntry, record
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.names import require_token_name
from infra.accounts.people import PART
from infra.accounts.random_keys import TOKEN_PREFIX, digest, new_key
from infra.accounts.roles import UserRole
from tasks.errors import expected_found_fix, safe_repr

MOST_DAYS = 366
MOST = 50  # of one person


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token, as its owner sees it; `role` is what it was given, and its owner may have less today."""

    id: int
    name: str
    role: UserRole
    made: datetime
    expires: datetime
    used: datetime | None
    has_expired: bool


@dataclass(frozen=True, kw_only=True)
class TokenOwner:
    """Whom a token is of, and the role it has now: the lower of its own and its owner's."""

    name: str
    role: UserRole
    token: str


def make_token(database: Database, by: Actor, name: str, role: UserRole, days: int, *, owner: str | None = None) -> str:
    """Make a token of account `owner`, else of that of `by`, and return it: it is kept nowhere.

    Raises:
        AccountError: The name is none or taken, the role is above that of the account, or a worker's where that is a
            person's, or the expiry is too far.
    """
    if not 1 <= days <= MOST_DAYS:
        raise AccountError(expected_found_fix(f"an expiry in 1 to {MOST_DAYS} days", f"{days}", "Choose another."))
    key = new_key(TOKEN_PREFIX)
    values = {
        "digest": digest(key),
        "name": require_token_name(name),
        "role": str(role),
        "days": days,
        "owner": owner or by.name,
    }
    insert = text(
        "INSERT INTO tokens (digest, account, name, role, expires) "
        "VALUES (:digest, :owner, :name, :role, now() + make_interval(days => :days)) ON CONFLICT DO NOTHING"
    )
    with database.transaction() as connection:
        owners = connection.execute(text("SELECT role FROM accounts WHERE name = :owner FOR UPDATE"), values).scalar()
        if owners is None or UserRole.parse(owners) < role:
            raise AccountError(
                expected_found_fix(f"a role that is not above {owners}", f"{role}", "Choose a lower one for the token.")
            )
        if role is UserRole.WORKER and UserRole.parse(owners) is not role:
            raise AccountError(
                expected_found_fix(
                    "a person's role for a token of a person", f"{role}", "`studio worker-env` makes those of machines."
                )
            )
        kept = connection.execute(text("SELECT count(*) FROM tokens WHERE account = :owner"), values).scalar_one()
        if kept >= MOST:
            raise AccountError(f"Expected fewer than {MOST} tokens of an account, found as many. Revoke some first.")
        if not connection.execute(insert, values).rowcount:
            raise AccountError(
                expected_found_fix("a name that none of your tokens has", safe_repr(name), "Choose another.")
            )
        record(connection, _entry(by, "token-made", owner, f"{name} as {role} for {days} days"))
    return key


def find_token(database: Database, key: str) -> TokenOwner | None:
    """Return whom a token is of; None if it is unknown, revoked or expired, or its account is shut."""
    query = text(
        "SELECT tokens.id, tokens.name AS token, tokens.role, accounts.name, accounts.role AS owners, "
        "used IS NULL OR used < now() - interval '1 minute' AS is_stale "
        "FROM tokens JOIN accounts ON accounts.name = account "
        "WHERE digest = :digest AND expires > now() AND NOT disabled"
    )
    with database.transaction() as connection:
        row = connection.execute(query, {"digest": digest(key)}).one_or_none()
        if row is None:
            return None
        if row.is_stale:
            connection.execute(text("UPDATE tokens SET used = now() WHERE id = :id"), {"id": row.id})
    owners = UserRole.parse(row.owners)
    role = min(UserRole.parse(row.role), owners)
    if role is UserRole.WORKER and owners is not role:  # the account has become a person's
        role = UserRole.OPERATOR
    return TokenOwner(name=row.name, role=role, token=row.token)


def list_tokens(database: Database, name: str) -> list[Token]:
    """Return the tokens of an account, the newest first; expired ones are there for a month."""
    query = text(
        "SELECT id, name, role, made, expires, used, expires <= now() AS has_expired FROM tokens "
        "WHERE account = :name ORDER BY id DESC"
    )
    with database.transaction() as connection:
        rows = connection.execute(query, {"name": name}).mappings()
        return [Token(**{**row, "role": UserRole.parse(row["role"])}) for row in rows]


def worker_token_ends(database: Database) -> dict[str, datetime]:
    """Return until when each worker elsewhere gets in, by its account: those that are shut out are not among them.

    One whose token has ended is there for a month more.
    """
    query = text(
        "SELECT account, max(expires) AS expires FROM tokens JOIN accounts ON accounts.name = account "
        "WHERE accounts.role = :role AND NOT disabled GROUP BY account ORDER BY account"
    )
    with database.transaction() as connection:
        rows = connection.execute(query, {"role": str(UserRole.WORKER)})
        return {row.account: row.expires for row in rows}


def revoke_token(database: Database, by: Actor, token: int, *, owner: str | None = None) -> None:
    """Revoke a token of account `owner`, else of that of `by`; one that is gone stays so."""
    query = text("DELETE FROM tokens WHERE id = :id AND account = :name RETURNING name")
    with database.transaction() as connection:
        name = connection.execute(query, {"id": token, "name": owner or by.name}).scalar()
        if name is not None:
            record(connection, _entry(by, "token-revoked", owner, name))


def _entry(by: Actor, action: str, owner: str | None, detail: str) -> AuditEntry:
    return AuditEntry(actor=by, part=PART, action=action, detail=f"of {owner}: {detail}" if owner else detail)
