"""How this studio is known to an OIDC provider, and which role the claims of a person give."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.accounts.errors import AccountError
from infra.accounts.roles import UserRole
from tasks.errors import expected_found_fix, safe_repr


@dataclass(frozen=True, kw_only=True)
class RoleClaims:
    """Which role a person gets, by a claim of the ID token, such as `groups`; `*` is for everybody.

    Written as `groups:ml-admins=admin,ml-team=operator,*=viewer`.
    """

    claim: str
    roles: Mapping[str, UserRole]

    @classmethod
    def parse(cls, text: str) -> "RoleClaims":
        """Return what a text says.

        Raises:
            AccountError: It is written in another way.
        """
        claim, _, rest = text.partition(":")
        pairs = [pair.rpartition("=")[::2] for pair in rest.split(",")]
        known = {str(role): role for role in UserRole}
        roles = {group.strip(): known.get(role.strip()) for group, role in pairs}
        if not claim.strip() or not all(group and role for group, role in roles.items()):
            expected = (
                "a claim and its roles in STUDIO_OIDC_ROLES, such as groups:ml-admins=admin,ml-team=operator,*=viewer"
            )
            raise AccountError(expected_found_fix(expected, safe_repr(text), "Write it so."))
        return cls(claim=claim.strip(), roles={group: role for group, role in roles.items() if role})

    def role_of(self, claims: Mapping[str, Any]) -> UserRole | None:
        """Return the highest role that the claims give; None if they give none."""
        held = claims.get(self.claim)
        groups = held if isinstance(held, list) else [held]
        return max((role for group, role in self.roles.items() if group == "*" or group in groups), default=None)


@dataclass(frozen=True, kw_only=True)
class Client:
    """How this studio is known to its provider."""

    issuer: str
    client_id: str
    client_secret: str
    roles: RoleClaims
