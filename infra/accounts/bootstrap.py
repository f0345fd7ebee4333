"""What `make up PUBLIC=1` does for accounts: the tables, and the first admin."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.accounts.audit import Actor
from infra.accounts.database import Database, migrate
from infra.accounts.errors import AccountError
from infra.accounts.names import OWNER
from infra.accounts.oidc_client import Client, RoleClaims
from infra.accounts.people import ensure_admin
from infra.accounts.roles import UserRole
from infra.stack_settings import ADMIN, StackSettings

# Who runs commands on the machine of the stack; the audit log shows no address of theirs.
STACK_OWNER = Actor(name=OWNER, role=str(UserRole.ADMIN))


def ensure_accounts(settings: StackSettings) -> bool:
    """Make what is missing of the tables, and the first admin if there is no account; return whether it was made."""
    with open_accounts(settings) as database:
        migrate(database)
        return ensure_admin(database, ADMIN, settings.secrets["admin_password"], STACK_OWNER)


def oidc_client(settings: StackSettings) -> Client | None:
    """Return how this stack is known to its OIDC provider; None if it has none.

    Raises:
        AccountError: A setting is missing or wrong.
    """
    if not settings.oidc_issuer:
        return None
    secret = settings.oidc_client_secret.get_secret_value()
    if not settings.oidc_client_id or not secret:
        raise AccountError(
            "Expected STUDIO_OIDC_CLIENT_ID and STUDIO_OIDC_CLIENT_SECRET beside STUDIO_OIDC_ISSUER, found one of them "
            "empty. Set both, as the provider gave them."
        )
    roles = RoleClaims.parse(settings.oidc_roles)
    return Client(issuer=settings.oidc_issuer, client_id=settings.oidc_client_id, client_secret=secret, roles=roles)


@contextmanager
def open_accounts(settings: StackSettings) -> Iterator[Database]:
    """Yield the database of the accounts of the stack.

    Raises:
        AccountError: The stack has no front door, and so no accounts.
    """
    if not settings.public:
        raise AccountError("Expected a stack with accounts, found one without: `make up PUBLIC=1` starts them.")
    database = Database(settings.accounts_url)
    try:
        yield database
    finally:
        database.close()
