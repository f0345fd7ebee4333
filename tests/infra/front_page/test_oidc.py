"""Signing in with an OpenID Connect provider, and what must not pass for it."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.accounts.bootstrap import STACK_OWNER, oidc_client
from infra.accounts.database import Database
from infra.accounts.errors import AccountError
from infra.accounts.oidc_client import Client, RoleClaims
from infra.accounts.people import find_account, set_disabled
from infra.accounts.roles import UserRole
from infra.front_page.application import application
from infra.stack_settings import StackSettings
from tests.infra.accounts.oidc_provider import CLIENT, SECRET, TestProvider, run_provider
from tests.infra.accounts.populations import add_person, audit_of
from tests.infra.front_page.outside import ORIGIN, Browser, services_with, sign_in

ROLES = RoleClaims.parse("groups:ml-admins=admin,ml=operator,guests=viewer")
AT_THE_PROVIDER = httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
STRANGER = rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def one_provider() -> Iterator[TestProvider]:
    with run_provider() as provider:
        yield provider


@pytest.fixture
def provider(one_provider: TestProvider) -> TestProvider:
    """It says the truth, of ada."""
    fresh = TestProvider(key=one_provider.key)
    for name in ("claims", "lie", "sign", "describe", "asked", "codes"):
        setattr(one_provider, name, getattr(fresh, name))
    return one_provider


@pytest.fixture
def browser(accounts_settings: StackSettings, database: Database, provider: TestProvider) -> Browser:
    add_person(database, "boss", UserRole.ADMIN)
    return open_browser(accounts_settings, provider)


def open_browser(settings: StackSettings, provider: TestProvider) -> Browser:
    client = Client(issuer=provider.address, client_id=CLIENT, client_secret=SECRET, roles=ROLES)
    return Browser(application(replace(services_with(settings), oidc=client)))


def leave_for(browser: Browser, target: str = "/live") -> str:
    """The address at the provider to which the browser is sent."""
    answer = browser.get(f"/sign-in/oidc?next={target}")
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def come_back(browser: Browser, address: str) -> httpx.Response:
    """Follow the link of the provider, as a browser does that comes from another site."""
    back = urlsplit(address)
    return browser.get(f"{back.path}?{back.query}", **{"Sec-Fetch-Site": "cross-site"})


def sign_in_there(browser: Browser, target: str = "/live") -> httpx.Response:
    return come_back(browser, AT_THE_PROVIDER.get(leave_for(browser, target)).headers["location"])


def test_whom_the_provider_knows_signs_in_with_the_role_of_their_group(browser: Browser, database: Database) -> None:
    answer = sign_in_there(browser, "/runs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    assert browser.cookies.keys() == {"__Host-studio-session"}
    assert "ada" in browser.get("/live").text
    account = find_account(database, "ada")
    assert account is not None
    assert account.role == UserRole.OPERATOR
    assert [(each.name, each.action, each.allowed) for each in audit_of(database)] == [
        ("ada", "sign-in", True),
        ("ada", "account-added", True),
    ]


def test_the_form_offers_the_provider_and_a_password_does_not_open_its_accounts(
    browser: Browser, provider: TestProvider
) -> None:
    assert f"Sign in with {urlsplit(provider.address).netloc}" in browser.get("/sign-in").text
    sign_in_there(browser)
    assert sign_in(browser, "ada", "").status_code == 403


def test_the_role_is_that_of_today(browser: Browser, database: Database, provider: TestProvider) -> None:
    for groups, role in [("ml-admins", "admin"), (["guests", "ml"], "operator"), (["guests", 7, None], "viewer")]:
        provider.claims["groups"] = groups
        sign_in_there(browser)
        account = find_account(database, "ada")
        assert account is not None
        assert str(account.role) == role


@pytest.mark.parametrize("groups", [[], ["others"], None, {"ml": 1}, 7, "ml-admin"])
def test_who_has_no_role_does_not_get_in(
    browser: Browser, database: Database, provider: TestProvider, groups: Any
) -> None:
    provider.claims["groups"] = groups
    answer = sign_in_there(browser)
    assert (answer.status_code, browser.key) == (403, "")
    assert "Expected a person with a role" in answer.text
    assert find_account(database, "ada") is None


def test_who_is_disabled_here_does_not_get_in(browser: Browser, database: Database) -> None:
    sign_in_there(browser)
    set_disabled(database, "ada", STACK_OWNER, disabled=True)
    assert sign_in_there(browser).status_code == 403
    assert browser.get("/live").status_code == 302


@pytest.mark.parametrize("claims", [{"sub": "43"}, {"preferred_username": "boss"}])
def test_a_name_is_no_identity(
    browser: Browser, database: Database, provider: TestProvider, claims: dict[str, str]
) -> None:
    """Who is called like somebody else at the provider, or has got the name of one who left, is not that person."""
    sign_in_there(browser)
    browser.cookies.clear()
    provider.claims |= claims
    answer = sign_in_there(browser)
    assert (answer.status_code, browser.key) == (403, "")
    assert find_account(database, "boss").issuer is None  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [None, "", "a b", "../x", "studio", 7, {"a": 1}])
def test_a_name_that_none_may_have_is_refused(browser: Browser, provider: TestProvider, name: Any) -> None:
    provider.claims |= {"preferred_username": name, "email": "ada@example.org", "email_verified": "yes"}
    answer = sign_in_there(browser)
    assert (answer.status_code, browser.key) == (403, "")


def test_an_address_that_the_provider_has_verified_is_a_name(
    browser: Browser, database: Database, provider: TestProvider
) -> None:
    provider.claims |= {"preferred_username": None, "email": "Ada@example.org", "email_verified": True}
    sign_in_there(browser)
    assert find_account(database, "ada@example.org") is not None


def signed_by(key: Any, algorithm: str, **header: Any) -> Any:
    return lambda provider, claims: jwt.encode(claims, key, algorithm, {"kid": provider.key_id, **header})


def signed_with_the_public_key(provider: TestProvider, claims: dict[str, Any]) -> str:
    """HS256 with what everybody knows as its secret; PyJWT itself refuses to make such a token."""
    public = provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def encoded(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    head = json.dumps({"alg": "HS256", "typ": "JWT", "kid": provider.key_id}).encode()
    signed = f"{encoded(head)}.{encoded(json.dumps(claims).encode())}"
    return f"{signed}.{encoded(hmac.new(public, signed.encode(), 'sha256').digest())}"


LIES: dict[str, Any] = {
    "another audience": {"aud": "another"},
    "several audiences, asked by another": {"aud": [CLIENT, "another"], "azp": "another"},
    "several audiences, nobody asked": {"aud": [CLIENT, "another"]},
    "another client asked": {"azp": "another"},
    "no audience": {"aud": None},
    "another issuer": {"iss": "https://evil.example"},
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "expired": {"exp": int(time.time()) - 120},
    "no end": {"exp": None},
    "from the future": {"iat": int(time.time()) + 3600, "nbf": int(time.time()) + 3600},
    "nobody": {"sub": None},
}
FORGERIES = {
    "no signature": signed_by(None, "none"),
    "another key": signed_by(STRANGER, "RS256"),
    "another key under a new name": signed_by(STRANGER, "RS256", kid="k2"),
    "another key that the token brings itself": signed_by(
        STRANGER, "RS256", jwk=jwt.algorithms.RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True)
    ),
    "the public key as a secret": signed_with_the_public_key,
    "no token": lambda *_: "x",
    "not even a text": lambda *_: {"a": 1},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_token_that_says_anything_else_is_refused(
    browser: Browser, database: Database, provider: TestProvider, lie: str
) -> None:
    provider.lie = lambda claims: {name: value for name, value in (claims | LIES[lie]).items() if value is not None}
    answer = sign_in_there(browser)
    assert (answer.status_code, browser.key) == (403, "")
    assert find_account(database, "ada") is None
    assert [(each.name, each.allowed) for each in audit_of(database)] == [("(unknown)", False)]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_token_that_anybody_could_make_is_refused(browser: Browser, provider: TestProvider, forgery: str) -> None:
    provider.sign = FORGERIES[forgery]
    answer = sign_in_there(browser)
    assert (answer.status_code, browser.key) == (403, "")


def test_keys_that_change_at_the_provider_are_asked_for_at_most_twice_a_minute(
    browser: Browser, provider: TestProvider
) -> None:
    """A token may name any key, and would else have us ask each time."""
    sign_in_there(browser)
    provider.sign = signed_by(STRANGER, "RS256", kid="k2")
    for _ in range(5):
        sign_in_there(browser)
    assert provider.asked.count("keys") == 1
    assert provider.asked.count("description") == 1


def test_an_answer_to_another_browser_signs_nobody_in(
    accounts_settings: StackSettings, browser: Browser, provider: TestProvider
) -> None:
    """The attacker's own answer, brought to a person, would have that person work in the attacker's name."""
    other = open_browser(accounts_settings, provider)
    address = AT_THE_PROVIDER.get(leave_for(other)).headers["location"]
    assert come_back(browser, address).status_code == 403
    leave_for(browser)
    assert come_back(browser, address).status_code == 403
    assert browser.key == ""
    assert come_back(other, address).status_code == 303


def test_an_answer_is_taken_once(browser: Browser) -> None:
    address = AT_THE_PROVIDER.get(leave_for(browser)).headers["location"]
    kept = dict(browser.cookies)
    assert come_back(browser, address).status_code == 303
    browser.cookies = kept
    assert come_back(browser, address).status_code == 403


def test_a_code_of_another_attempt_is_refused_by_its_verifier(
    accounts_settings: StackSettings, browser: Browser, provider: TestProvider
) -> None:
    other = open_browser(accounts_settings, provider)
    stolen = parse_qs(urlsplit(AT_THE_PROVIDER.get(leave_for(other)).headers["location"]).query)["code"][0]
    state = parse_qs(urlsplit(leave_for(browser)).query)["state"][0]
    answer = come_back(browser, f"{ORIGIN}/sign-in/oidc/callback?code={stolen}&state={state}")
    assert (answer.status_code, browser.key) == (403, "")
    assert "invalid_grant" in answer.text


@pytest.mark.parametrize("query", ["", "error=access_denied", "code=", "code=x&state=x", "state=%00&code=%00"])
def test_a_return_without_a_code_of_the_provider_is_told(browser: Browser, query: str) -> None:
    state = parse_qs(urlsplit(leave_for(browser)).query)["state"][0]
    query += "" if "state" in query else f"&state={state}"
    answer = come_back(browser, f"{ORIGIN}/sign-in/oidc/callback?{query}")
    assert (answer.status_code, "Expected" in answer.text) == (403, True)


@pytest.mark.parametrize(
    "description",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
    ],
)
def test_a_provider_that_describes_itself_otherwise_is_not_asked(
    browser: Browser, provider: TestProvider, description: dict[str, Any]
) -> None:
    provider.describe = lambda found: found | description
    answer = browser.get("/sign-in/oidc")
    assert (answer.status_code, "Expected" in answer.text) == (502, True)


def test_a_provider_that_is_away_or_sends_no_end_is_told(browser: Browser, provider: TestProvider) -> None:
    provider.describe = lambda found: found | {"padding": "x" * 2**21}
    assert "Expected at most 1048576 bytes" in browser.get("/sign-in/oidc").text
    provider.describe = lambda found: [found]
    assert "Expected a JSON object" in browser.get("/sign-in/oidc").text


def test_an_answer_of_a_provider_that_nobody_has_is_a_page_that_is_not_there(
    accounts_settings: StackSettings, database: Database
) -> None:
    browser = Browser(application(services_with(accounts_settings)))
    assert database
    for path in ("/sign-in/oidc", "/sign-in/oidc/callback?code=x&state=x"):
        assert browser.get(path).status_code == 404


@pytest.mark.parametrize("text", ["", "groups", "groups:", "groups:a=owner", ":a=admin", "groups:=admin", "groups:a"])
def test_roles_that_are_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(AccountError, match="Expected a claim and its roles in STUDIO_OIDC_ROLES"):
        RoleClaims.parse(text)


def test_settings_of_a_provider_are_whole_and_stay_for_the_next_start(tmp_path: Any) -> None:
    with pytest.raises(AccountError, match="STUDIO_OIDC_CLIENT_SECRET"):
        oidc_client(StackSettings(state_dir=tmp_path, oidc_issuer="https://idp", oidc_client_id="x"))
    whole = StackSettings(
        state_dir=tmp_path,
        public=True,
        oidc_issuer="https://idp",
        oidc_client_id=CLIENT,
        oidc_client_secret=SECRET,
        oidc_roles="groups:a b=admin,*=viewer",
    )
    whole.remember()
    kept = StackSettings(_env_file=tmp_path / "settings.env", state_dir=tmp_path)
    assert oidc_client(kept) == oidc_client(whole)
    assert kept.oidc_client_secret.get_secret_value() == SECRET
