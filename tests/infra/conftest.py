"""One PostgreSQL server for the tests of accounts; each test finds tables without rows."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

if TYPE_CHECKING:
    from infra.accounts.database import Database
    from infra.stack_settings import StackSettings


@pytest.fixture(scope="session")
def accounts_settings(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[StackSettings]":
    """The settings of a stack of which the database alone runs, with the tables of accounts."""
    from tests.infra.accounts.database import run_postgres_with_accounts

    with run_postgres_with_accounts(tmp_path_factory.mktemp("accounts") / "state") as settings:
        yield settings


@pytest.fixture
def database(accounts_settings: "StackSettings") -> "Iterator[Database]":
    from tests.infra.accounts.database import open_empty_accounts

    with open_empty_accounts(accounts_settings) as opened:
        yield opened


@pytest.fixture
def _stack_with_accounts(
    monkeypatch: pytest.MonkeyPatch, accounts_settings: "StackSettings", database: "Database"
) -> Iterator[None]:
    """That stack for what reads the environment, with a front door by its settings and an admin.

    Commands that find a stack set variables of their process, in which other tests go on.
    """
    from infra.accounts.roles import UserRole
    from tests.infra.accounts.populations import add_person

    (accounts_settings.state_dir / "env").touch()  # as `studio up` leaves it, by which it is known for a stack
    monkeypatch.setenv("STUDIO_STATE_DIR", str(accounts_settings.state_dir))
    monkeypatch.setenv("STUDIO_POSTGRES_PORT", str(accounts_settings.postgres_port))
    monkeypatch.setenv("STUDIO_PUBLIC", "true")
    monkeypatch.setenv("STUDIO_PUBLIC_HOST", "studio.example.org")
    add_person(database, "boss", UserRole.ADMIN)
    with patch.dict(os.environ):
        yield
