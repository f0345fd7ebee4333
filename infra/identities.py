"""Who may do what in the local object store: one identity a role, with SeaweedFS's own actions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.accounts.roles import UserRole
from tasks.storage.object_names import Bucket


class Role(StrEnum):
    """What a key of the object store is for."""

    ADMIN = "admin"  # `make up`, which makes buckets
    WORKER = "worker"  # flow runs
    MLFLOW = "mlflow"
    TRITON = "triton"
    PAGE = "page"  # the front page
    LINKS = "links"  # signs presigned links, so whoever has one can reach no more than this role
    PERSON = "person"  # `.studio/env`


READING = ("Read", "List")
CHANGING = ("Read", "List", "Write", "Tagging")
# SeaweedFS has one word for both, and a pattern with a key in it is for objects alone.
_OF_BUCKETS_TOO = {"Write", "Tagging"}


def _on(actions: Iterable[str], *buckets: str) -> list[str]:
    """The actions on these buckets: reading their settings as well as objects, changing objects alone."""
    return [
        f"{action}:{bucket}/?*" if action in _OF_BUCKETS_TOO else f"{action}:{bucket}"
        for bucket in buckets
        for action in actions
    ]


ACTIONS: Mapping[Role, list[str]] = {
    Role.ADMIN: ["Admin"],
    Role.WORKER: _on(CHANGING, "*"),
    Role.MLFLOW: _on(CHANGING, Bucket.MLFLOW),
    Role.TRITON: _on(READING, Bucket.MODELS),
    Role.PAGE: [
        *_on(CHANGING, Bucket.DATASETS),
        *_on(READING, Bucket.PREDICTIONS, Bucket.RUNS),
        f"Write:{Bucket.RUNS}/review-answers/?*",
    ],
    Role.LINKS: _on(("Read",), Bucket.PREDICTIONS, Bucket.RUNS),
    Role.PERSON: [
        *_on(CHANGING, Bucket.DATASETS, Bucket.MEDIA, Bucket.BASE_MODELS),
        *_on(READING, Bucket.PREDICTIONS, Bucket.RUNS),
    ],
}


def secret_names(role: Role) -> tuple[str, str]:
    """Return the names of a role's key and its secret among the secrets of the stack."""
    return f"s3_{role}_access_key", f"s3_{role}_secret_key"


VIEWING = _on(READING, Bucket.DATASETS, Bucket.MEDIA, Bucket.PREDICTIONS, Bucket.RUNS)
# What the runs of a worker elsewhere need. What Triton loads is written by workers of the stack, and MLflow's server
# passes files on.
WORKING_ELSEWHERE = [
    *_on(CHANGING, Bucket.DATASETS, Bucket.PREDICTIONS, Bucket.RUNS),
    *_on(READING, Bucket.MEDIA, Bucket.BASE_MODELS),
]


@dataclass(frozen=True, kw_only=True)
class GivenKey:
    """A key that was given to a person or a machine: one of an account may what that may, another what its role may."""

    name: str
    role: UserRole | Role
    key: str
    secret: str
    is_taken: bool = False

    @property
    def actions(self) -> list[str]:
        """SeaweedFS's actions."""
        if self.is_taken:
            return []
        if isinstance(self.role, Role):
            return ACTIONS[self.role]
        if self.role is UserRole.WORKER:
            return WORKING_ELSEWHERE
        return VIEWING if self.role is UserRole.VIEWER else ACTIONS[Role.PERSON]

    @property
    def identity(self) -> str:
        """The name of its identity, which no role has."""
        return f"{self.role if isinstance(self.role, Role) else 'account'}-{self.name}"


def identities(secrets: Sequence[Mapping[str, str]], given: Iterable[GivenKey] = ()) -> dict[str, object]:
    """Return the identities as SeaweedFS reads them from `s3.config`; each role has the keys of all these secrets."""
    identities: list[dict[str, object]] = []
    for role, actions in ACTIONS.items():
        key, secret = secret_names(role)
        pairs = {values[key]: values[secret] for values in secrets}
        credentials = [{"accessKey": each, "secretKey": pairs[each]} for each in pairs]
        identities.append({"name": role, "credentials": credentials, "actions": actions})
    for each in given:
        credentials = [{"accessKey": each.key, "secretKey": each.secret}]
        identities.append({"name": each.identity, "credentials": credentials, "actions": each.actions})
    return {"identities": identities}
