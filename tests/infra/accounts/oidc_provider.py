"""An OpenID Connect provider for tests: a server of its own that signs real tokens, and can be told to lie.

It is no product, because none can be had here without a container; keys, signatures, PKCE and HTTP are real.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.waiting import eventually

CLIENT, SECRET = "studio", "a secret #1 'of' the client"
Lie = Callable[[dict[str, Any]], Any]


@dataclass
class TestProvider:
    """What it says: `claims` of the person, and how it lies: `claims_lie` changes them, `sign` makes the token."""

    __test__ = False
    address: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "42", "preferred_username": "Ada", "groups": ["ml"]})
    lie: Lie = lambda claims: claims
    sign: Callable[["TestProvider", dict[str, Any]], str] | None = None
    describe: Lie = lambda description: description
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    key_id: str = "k1"
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        return [
            Route("/.well-known/openid-configuration", self._description),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
            Route("/keys", self._keys),
        ]

    def token(self, claims: dict[str, Any]) -> str:
        if self.sign:
            return self.sign(self, claims)
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.key_id})

    async def _description(self, request: Request) -> Response:  # noqa: ARG002
        self.asked.append("description")
        found = {"issuer": self.address, "authorization_endpoint": f"{self.address}/authorize"}
        found |= {"token_endpoint": f"{self.address}/token", "jwks_uri": f"{self.address}/keys"}
        return JSONResponse(self.describe(found))

    async def _authorize(self, request: Request) -> Response:
        """The person has signed in here, and is sent back."""
        query = dict(request.query_params)
        code = secrets.token_hex(8)
        self.codes[code] = query
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}", 302)

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        known = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.codes.pop(form["code"], None)
        if asked is None or request.headers["authorization"] != f"Basic {known}":
            return JSONResponse({"error": "invalid_grant"}, 400)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if (proof, form["redirect_uri"]) != (asked["code_challenge"], asked["redirect_uri"]):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        return JSONResponse({"id_token": self.token(self.lie(claims | self.claims))})

    async def _keys(self, request: Request) -> Response:  # noqa: ARG002
        self.asked.append("keys")
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return JSONResponse({"keys": [key | {"kid": self.key_id, "use": "sig", "alg": "RS256"}]})


@contextlib.contextmanager
def run_provider() -> Iterator[TestProvider]:
    """A provider that listens on this machine."""
    provider = TestProvider()
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=provider.routes()), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started, "the provider", 20, every_s=0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        provider.address = f"http://127.0.0.1:{port}"
        yield provider
    finally:
        server.should_exit = True
        thread.join()
