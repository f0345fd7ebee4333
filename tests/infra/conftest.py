"""One PostgreSQL server for the tests of accounts; each test finds tables without rows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
