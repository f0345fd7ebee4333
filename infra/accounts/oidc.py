"""Signing in with an OpenID Connect provider: authorization code with PKCE, and what its ID token has to say.

What the provider answers is believed as far as its signature goes, and not further: sizes, times and addresses have
bounds, and no redirect is followed.
"""

import hashlib
import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import jwt

from infra.accounts.errors import AccountError
from infra.accounts.names import require_name
from infra.accounts.oidc_attempt import Attempt
from infra.accounts.oidc_client import Client
from infra.accounts.roles import UserRole
from tasks.errors import expected_found_fix, safe_repr

# Those that use a key pair: with a shared secret, whoever can check a token can make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 60
_MOST_BYTES = 2**20  # of an answer
_TIMEOUT_S = 5.0  # without a byte
_LONGEST_S = 15.0  # of an answer
_KNOWN_FOR_S = 3600.0  # addresses and keys of the provider
_ASKED_ANEW_S = 30.0  # at most so often for a key that is not known: anybody can name one
_ADDRESSES = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class ProviderError(AccountError):
    """The OIDC provider does not sign this person in; the message says why."""


class ProviderAwayError(ProviderError):
    """The provider did not answer."""

    transient = True


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom the provider has signed in; (`issuer`, `subject`) is always the same person, a name may change hands."""

    issuer: str
    subject: str
    name: str
    role: UserRole


class Provider:
    """An OIDC provider, as its issuer describes it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # Kept, because its certificates take 0.3 s to load; nobody signs in often enough to keep connections.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(timeout=_TIMEOUT_S, limits=limits, headers={"Accept": "application/json"})
        self._lock = threading.Lock()
        self._described: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, jwt.PyJWKSet] | None = None

    @property
    def name(self) -> str:
        """The host of the issuer, for people."""
        return urlsplit(self._client.issuer).netloc

    def sign_in_address(self, attempt: Attempt, return_to: str) -> str:
        """Return where the browser goes to sign in; from there it comes back to `return_to`.

        Raises:
            ProviderError: The provider does not answer, or not as one does.
        """
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": return_to,
            "scope": "openid profile email",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": _challenge(attempt.verifier),
            "code_challenge_method": "S256",
        }
        address = self._description()["authorization_endpoint"]
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    def person_behind(self, attempt: Attempt, returned: Mapping[str, str], return_to: str) -> Person:
        """Return whom the provider has signed in; `returned` is the query with which the browser came back.

        Raises:
            ProviderError: Nobody, or the answer is not one to this attempt, or the person has no role here.
        """
        is_own = bool(attempt.key) and hmac.compare_digest(returned.get("state", "").encode(), attempt.state.encode())
        if not is_own:
            raise ProviderError("Expected an answer to this browser's own attempt, found another. Sign in once more.")
        if returned.get("iss", self._client.issuer) != self._client.issuer:
            raise ProviderError(
                "Expected an answer of the provider that was asked, found another's. Sign in once more."
            )
        if "error" in returned or not returned.get("code"):
            found = safe_repr(returned.get("error", "no code"))
            raise ProviderError(f"Expected a person whom the provider has signed in, found {found}. Sign in once more.")
        claims = self._claims(self._id_token(attempt, returned["code"], return_to), attempt)
        role = self._client.roles.role_of(claims)
        if role is None:
            raise ProviderError(
                "Expected a person with a role in this studio, found none of STUDIO_OIDC_ROLES among the claims. "
                "Ask an admin."
            )
        return Person(issuer=self._client.issuer, subject=claims["sub"], name=_name(claims), role=role)

    def _id_token(self, attempt: Attempt, code: str, return_to: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": return_to,
            "client_id": self._client.client_id,
            "code_verifier": attempt.verifier,
        }
        known = (self._client.client_id, self._client.client_secret)
        answer = self._fetch("POST", self._description()["token_endpoint"], data=form, auth=known)
        token = answer.get("id_token")
        if not isinstance(token, str):
            found = safe_repr(answer.get("error", "none"))
            raise ProviderError(f"Expected an ID token of the provider, found {found}. Sign in once more.")
        return token

    def _claims(self, token: str, attempt: Attempt) -> dict[str, Any]:
        needed = ["iss", "sub", "aud", "exp", "iat"]
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(token),
                algorithms=ALGORITHMS,
                audience=self._client.client_id,
                issuer=self._client.issuer,
                leeway=LEEWAY_S,
                options={"require": needed},
            )
        except jwt.PyJWTError as error:
            raise ProviderError(f"Expected an ID token that is for this studio, found another: {error}.") from error
        audience = claims["aud"]
        is_for_us_alone = isinstance(audience, str) or len(audience) == 1
        if claims.get("azp", self._client.client_id if is_for_us_alone else None) != self._client.client_id:
            raise ProviderError("Expected an ID token that this studio has asked for, found one of another client.")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), attempt.nonce.encode()):
            raise ProviderError("Expected an ID token of this very attempt, found another. Sign in once more.")
        return claims

    def _key(self, token: str) -> jwt.PyJWK:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:
            raise ProviderError(
                expected_found_fix(
                    f"an ID token that is signed by one of {', '.join(ALGORITHMS)}",
                    safe_repr(header.get("alg")),
                    "Choose one of these for this client at the provider.",
                )
            )
        for is_last in (False, True):
            for key in self._key_set(is_anew=is_last).keys:
                if key.key_id == header.get("kid") and key.public_key_use in {None, "sig"}:
                    return key
        raise ProviderError("Expected an ID token that is signed by a key of the provider, found another's.")

    def _key_set(self, *, is_anew: bool) -> jwt.PyJWKSet:
        with self._lock:
            age = time.monotonic() - self._keys[0] if self._keys else None
            if self._keys is None or age is None or age > (_ASKED_ANEW_S if is_anew else _KNOWN_FOR_S):
                answer = self._fetch("GET", self._described_now()["jwks_uri"])
                try:
                    self._keys = (time.monotonic(), jwt.PyJWKSet.from_dict(answer))
                except jwt.PyJWTError as error:
                    raise ProviderError(
                        f"Expected the keys of the provider, found none that are any: {error}."
                    ) from error
            return self._keys[1]

    def _description(self) -> dict[str, Any]:
        with self._lock:
            return self._described_now()

    def _described_now(self) -> dict[str, Any]:
        if self._described and time.monotonic() - self._described[0] < _KNOWN_FOR_S:
            return self._described[1]
        issuer = self._client.issuer
        found = self._fetch("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            found_issuer = safe_repr(found.get("issuer"))
            raise ProviderError(
                expected_found_fix(f"a provider that calls itself {issuer}", found_issuer, "Mind STUDIO_OIDC_ISSUER.")
            )
        for name in _ADDRESSES:
            _require_safe(found.get(name))
        self._described = (time.monotonic(), found)
        return found

    def _fetch(self, method: str, address: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of httpx
        """Return the JSON object that an address of the provider answers."""
        _require_safe(address)
        deadline = time.monotonic() + _LONGEST_S
        try:
            with self._http.stream(method, address, **options) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _MOST_BYTES or time.monotonic() > deadline:
                        raise ProviderError(
                            f"Expected at most {_MOST_BYTES} bytes of the provider within {_LONGEST_S:g} s, found more."
                        )
            found = json.loads(bytes(body))
        except httpx.HTTPError as error:
            raise ProviderAwayError(
                expected_found_fix(f"an answer of {urlsplit(address).netloc}", type(error).__name__, "Try again later.")
            ) from error
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ProviderError(
                f"Expected a JSON object of {urlsplit(address).netloc}, found another answer ({answer.status_code})."
            )
        return found


def _require_safe(address: object) -> None:
    """Refuse an address that others could listen to."""
    parts = urlsplit(address) if isinstance(address, str) else None
    if parts and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost"})):
        return
    raise ProviderError(f"Expected addresses of the provider with https, found {safe_repr(address)}.")


def _challenge(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _name(claims: Mapping[str, Any]) -> str:
    """The name that the account gets; of an address only if the provider has verified it."""
    address = claims.get("email") if claims.get("email_verified") is True else None
    found = claims.get("preferred_username") or address
    if not isinstance(found, str):
        raise ProviderError(
            "Expected preferred_username, or a verified email, in the ID token, found neither. "
            "Have the provider send one of the two to this client."
        )
    return require_name(found.lower())
