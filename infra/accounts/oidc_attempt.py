"""What keeps one sign-in with an OIDC provider apart from all others."""

import hmac
import secrets
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt to sign in, of the browser that holds the key: all that has to be secret follows from it."""

    key: str

    @classmethod
    def begin(cls) -> "Attempt":
        """Return a new one."""
        return cls(key=secrets.token_urlsafe(32))

    @property
    def state(self) -> str:
        """By which the answer is known to belong to this browser."""
        return self._of("state")

    @property
    def nonce(self) -> str:
        """By which the ID token is known to belong to this attempt."""
        return self._of("nonce")

    @property
    def verifier(self) -> str:
        """By which the provider knows that who asks for the token is who began (PKCE)."""
        return self._of("verifier")

    def _of(self, purpose: str) -> str:
        return hmac.new(self.key.encode(), purpose.encode(), "sha256").hexdigest()
