"""Whom a service believes to be behind a request."""

import pytest
from starlette.requests import HTTPConnection

from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor, visitor_of

SECRET = "s" * 32
SENT = {"x-studio-door": SECRET, "x-studio-user": "ada", "x-studio-role": "operator"}


def connection(headers: list[tuple[str, str]]) -> HTTPConnection:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw})


def test_the_front_door_says_who_it_is() -> None:
    found = visitor_of(connection([*SENT.items()]), SECRET)
    assert found == Visitor(name="ada", role=UserRole.OPERATOR)


@pytest.mark.parametrize(
    "changed",
    [
        {"x-studio-door": "t" * 32},
        {"x-studio-door": ""},
        {"x-studio-user": ""},
        {"x-studio-role": "owner"},
        {"x-studio-role": ""},
    ],
    ids=str,
)
def test_headers_of_anybody_else_name_nobody(changed: dict[str, str]) -> None:
    assert visitor_of(connection([*(SENT | changed).items()]), SECRET) is None


@pytest.mark.parametrize("name", SENT)
def test_a_header_that_is_missing_or_there_twice_names_nobody(name: str) -> None:
    assert visitor_of(connection([(key, value) for key, value in SENT.items() if key != name]), SECRET) is None
    assert visitor_of(connection([*SENT.items(), (name, SENT[name])]), SECRET) is None


def test_without_a_secret_nobody_is_believed() -> None:
    assert visitor_of(connection([*(SENT | {"x-studio-door": ""}).items()]), "") is None


def test_roles_are_known_by_their_names_and_each_may_more() -> None:
    assert [UserRole.parse(name) for name in ("viewer", "operator", "worker", "admin")] == sorted(UserRole)
