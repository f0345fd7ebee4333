"""API tokens in a real PostgreSQL."""

import pytest
from sqlalchemy import text

from infra.accounts.audit import Actor
from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.people import set_role
from infra.accounts.roles import UserRole
from infra.accounts.sessions import forget_ended
from infra.accounts.tokens import MOST, TokenOwner, find_token, list_tokens, make_token, revoke_token
from tests.infra.accounts.populations import add_person, add_token, audit_of, pass_time


def test_a_token_is_of_its_owner_and_is_kept_as_a_digest(database: Database) -> None:
    add_person(database, "ada")
    key = add_token(database, "ada")
    assert find_token(database, key) == TokenOwner(name="ada", role=UserRole.OPERATOR, token="a operator")
    with database.transaction() as connection:
        (row,) = connection.execute(text("SELECT * FROM tokens")).all()
    assert key not in str(row)
    assert find_token(database, row.digest) is None
    assert key not in str(audit_of(database))


def test_a_token_has_the_lower_role_of_its_own_and_its_owners_at_each_use(database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada", UserRole.ADMIN)
    keys = [add_token(database, "ada", role) for role in UserRole if role is not UserRole.WORKER]

    def roles() -> list[UserRole]:
        return [owner.role for owner in (find_token(database, key) for key in keys) if owner]

    assert roles() == [UserRole.VIEWER, UserRole.OPERATOR, UserRole.ADMIN]
    set_role(database, "ada", UserRole.OPERATOR, STACK_OWNER)
    assert roles() == [UserRole.VIEWER, UserRole.OPERATOR, UserRole.OPERATOR]
    set_role(database, "ada", UserRole.VIEWER, STACK_OWNER)
    assert roles() == [UserRole.VIEWER] * 3


def test_a_workers_token_is_of_an_account_with_that_role_alone(database: Database) -> None:
    """What a worker does is in no audit log, and it says itself who started a run."""
    add_person(database, "boss", UserRole.ADMIN)
    with pytest.raises(AccountError, match="a person's role for a token of a person, found worker"):
        add_token(database, "boss", UserRole.WORKER)
    add_person(database, "gpu-7", UserRole.WORKER)
    key = add_token(database, "gpu-7", UserRole.WORKER)
    set_role(database, "gpu-7", UserRole.ADMIN, STACK_OWNER)
    owner = find_token(database, key)
    assert owner
    assert owner.role is UserRole.OPERATOR


def test_nobody_makes_a_token_of_more_than_they_may(database: Database) -> None:
    add_person(database, "ada", UserRole.OPERATOR)
    with pytest.raises(AccountError, match="not above operator, found admin"):
        add_token(database, "ada", UserRole.ADMIN)
    assert list_tokens(database, "ada") == []


@pytest.mark.parametrize("days", [0, -1, 367, 10**9])
def test_a_token_has_an_end(database: Database, days: int) -> None:
    add_person(database, "ada")
    with pytest.raises(AccountError, match="an expiry in 1 to 366 days"):
        add_token(database, "ada", days=days)


def test_a_token_that_has_expired_opens_nothing_and_is_shown_for_a_month(database: Database) -> None:
    add_person(database, "ada")
    key = add_token(database, "ada", days=1)
    pass_time(database, "tokens", "expires", "1 day")
    assert find_token(database, key) is None
    assert [token.has_expired for token in list_tokens(database, "ada")] == [True]
    pass_time(database, "tokens", "expires", "30 days")
    forget_ended(database)
    assert list_tokens(database, "ada") == []


def test_people_revoke_their_own_tokens_alone(database: Database) -> None:
    for name in ("ada", "bob"):
        add_person(database, name)
    key = add_token(database, "ada")
    (token,) = list_tokens(database, "ada")
    revoke_token(database, Actor(name="bob"), token.id)
    assert find_token(database, key) is not None
    revoke_token(database, Actor(name="ada"), token.id)
    assert find_token(database, key) is None
    assert [each.action for each in audit_of(database)] == ["token-revoked", "token-made"]


def test_the_use_of_a_token_is_written_once_a_minute_at_most(database: Database) -> None:
    add_person(database, "ada")
    key = add_token(database, "ada")
    assert list_tokens(database, "ada")[0].used is None
    find_token(database, key)
    first = list_tokens(database, "ada")[0].used
    find_token(database, key)
    assert list_tokens(database, "ada")[0].used == first
    assert first is not None
    pass_time(database, "tokens", "used", "61 seconds")
    find_token(database, key)
    assert list_tokens(database, "ada")[0].used > first  # type: ignore[operator]


def test_a_name_is_of_one_token_and_one_person_has_so_many(database: Database) -> None:
    actor = add_person(database, "ada")
    for number in range(MOST):
        make_token(database, actor, f"t{number}", UserRole.VIEWER, 1)
    with pytest.raises(AccountError, match=f"fewer than {MOST}"):
        make_token(database, actor, "one more", UserRole.VIEWER, 1)
    revoke_token(database, actor, list_tokens(database, "ada")[0].id)
    with pytest.raises(AccountError, match="a name that none of your tokens has"):
        make_token(database, actor, "t0", UserRole.VIEWER, 1)
