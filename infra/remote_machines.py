"""Workers and Tritons on machines elsewhere: what each is told, and nothing that opens more than it needs.

A worker comes through the front door, with a token and keys of the object store that are its own: they are taken away
with its account, and no other machine has to be told. Triton is not behind the front door: a tunnel joins it, and the
key of its load API, which Triton knows but one of, is the same for all.
"""

from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.names import require_name
from infra.accounts.people import add_account, find_account
from infra.accounts.roles import UserRole
from infra.accounts.tokens import list_tokens, make_token, revoke_token
from infra.environment import LINKS, page_addresses
from infra.front_door import INTERNAL
from infra.identities import Role
from infra.person_keys import give_key
from infra.rotation.remote_keys import remembered
from infra.stack_settings import PREFECT_PATH, REGION, StackSettings
from tasks.errors import expected_found_fix, safe_repr
from tasks.triton_targets import TritonTarget

_TOKEN = "worker-env"  # noqa: S105 - the name of the token


@remembered
def remote_worker_environment(
    settings: StackSettings,
    database: Database,
    name: str,
    *,
    days: int,
    certificates: str,
    triton: TritonTarget | None = None,
) -> dict[str, str]:
    """Return the variables of a worker elsewhere; an account of that name is made, or gets another token and key.

    Args:
        settings: Of the stack, which has a front door.
        database: Of its accounts.
        name: Of the account, one for each machine.
        days: How long the token is valid.
        certificates: Path on that machine of a file with the certificates that it trusts.
        triton: By which addresses that machine reaches a Triton of the stack; none: it takes no runs that ask one.

    Raises:
        AccountError: The name is none, or that of an account that is no worker or is disabled.
        StudioError: The object store is not one of this machine, or its keys are being rotated.
    """
    account = find_account(database, name)
    if account is None:
        add_account(database, name, UserRole.WORKER, STACK_OWNER)
    elif account.role is not UserRole.WORKER or account.disabled:
        found = f"{safe_repr(name)}, who is {'disabled' if account.disabled else account.role}"
        fix = "Choose another name, one for each machine."
        raise AccountError(expected_found_fix("a new name, or that of an open account with role worker", found, fix))
    key, links = (give_key(settings, name, role) for role in (UserRole.WORKER, Role.LINKS))
    token = _new_token(database, name, days)
    trusted = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE") if settings.public_tls == INTERNAL else ()
    return {
        "PREFECT_API_URL": f"{settings.public_url}{PREFECT_PATH}",
        "PREFECT_API_AUTH_STRING": f"{name}:{token}",
        "MLFLOW_TRACKING_URI": f"{settings.public_url}/mlflow",
        "MLFLOW_TRACKING_USERNAME": name,
        "MLFLOW_TRACKING_PASSWORD": token,
        "AWS_ENDPOINT_URL": settings.public_s3_url,
        "AWS_ACCESS_KEY_ID": key.key,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_DEFAULT_REGION": REGION,
        **dict(zip(LINKS, (links.key, links.secret), strict=True)),
        **page_addresses(settings),
        **dict.fromkeys(trusted, certificates),
        **(_triton(settings, triton) if triton else {}),
    }


@remembered
def remote_triton_environment(settings: StackSettings, name: str, target: TritonTarget, store: str) -> dict[str, str]:
    """Return the variables of a tritonserver elsewhere that serves the models of this stack; it gets another key.

    Args:
        settings: Of the stack.
        name: Of that machine.
        target: Where it listens on that machine.
        store: By which address that machine reaches the object store.

    Raises:
        AccountError: The name is none.
        StudioError: The object store is not one of this machine, or its keys are being rotated.
    """
    key = give_key(settings, require_name(name), Role.TRITON)
    return {
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": key.key,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_DEFAULT_REGION": REGION,
        **_triton(settings, target),
    }


def _triton(settings: StackSettings, target: TritonTarget) -> dict[str, str]:
    return {
        "TRITON_GRPC_URL": target.grpc,
        "TRITON_HTTP_URL": target.http,
        "STUDIO_TRITON_KEY": settings.triton_key,
    }


def _new_token(database: Database, name: str, days: int) -> str:
    """A token of the account in the place of the one that this command made before."""
    for token in list_tokens(database, name):
        if token.name == _TOKEN:
            revoke_token(database, STACK_OWNER, token.id, owner=name)
    return make_token(database, STACK_OWNER, _TOKEN, UserRole.WORKER, days, owner=name)
