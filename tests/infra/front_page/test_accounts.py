"""Signing in, and the pages of accounts, as people outside see them, with a real PostgreSQL."""

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest

from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.people import add_account, find_account, set_role
from infra.accounts.roles import UserRole
from infra.accounts.tokens import find_token, list_tokens
from infra.accounts.visitors import NAME_HEADER, ROLE_HEADER, SECRET_HEADER
from infra.front_page import people
from infra.front_page.access import TOKEN_HEADER, token
from infra.front_page.application import application
from infra.services import front_page, worker
from infra.stack_settings import USER, StackSettings
from tests.infra.accounts.database import free_port
from tests.infra.accounts.populations import PASSWORD, add_person, add_session, add_token, audit_of
from tests.infra.front_page.outside import (
    ORIGIN,
    OWN_PASSWORD,
    SECRET,
    Browser,
    open_browser_on,
    services_with,
    sign_in,
    take_session,
)
from tests.waiting import eventually

NEW = "a new password of mine"


@pytest.fixture
def browser(accounts_settings: StackSettings, database: Database) -> Browser:
    """A browser of nobody yet; ada is an operator, boss an admin, vic a viewer."""
    for name, role in {"ada": UserRole.OPERATOR, "boss": UserRole.ADMIN, "vic": UserRole.VIEWER}.items():
        add_person(database, name, role)
    return open_browser_on(accounts_settings)


def ask_directly(settings: StackSettings, method: str, path: str, **options: object) -> httpx.Response:
    """What the page answers on 127.0.0.1, where nobody stands between."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(application(services_with(settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8003", trust_env=False) as client:
            return await client.request(method, path, **options)  # type: ignore[arg-type]

    return asyncio.run(answer())


def test_a_person_signs_in_goes_on_where_they_were_and_signs_out(browser: Browser, database: Database) -> None:
    assert browser.get("/live").headers["location"] == "/sign-in?next=%2Flive"
    answer = sign_in(browser, " Ada ", PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/live")
    page = browser.get("/live")
    assert page.status_code == 200
    assert re.search(r"ada <span class=.badge.>operator</span>", page.text)
    assert browser.act("/sign-out").headers["hx-redirect"] == "/sign-in"
    assert browser.cookies.keys() == set()
    assert browser.get("/live").status_code == 302
    assert [each.action for each in audit_of(database)] == ["sign-out", "sign-in"]


def test_after_signing_out_the_old_cookie_opens_nothing(browser: Browser) -> None:
    sign_in(browser, "ada", PASSWORD)
    kept = dict(browser.cookies)
    browser.act("/sign-out")
    browser.cookies = kept
    assert browser.get("/live").status_code == 302


def test_signing_in_gives_a_new_session_whatever_the_browser_had(browser: Browser) -> None:
    browser.cookies["__Host-studio-session"] = "chosen by another"
    sign_in(browser, "ada", PASSWORD)
    assert browser.key not in {"", "chosen by another"}


def test_a_wrong_password_is_told_beside_the_form(browser: Browser) -> None:
    answer = sign_in(browser, "ada", "another")
    assert (answer.status_code, browser.key) == (403, "")
    assert "Expected name and password of an account" in answer.text
    assert 'value="ada"' in answer.text
    assert "another" not in answer.text


def test_too_many_failures_are_told_with_the_time_to_wait(browser: Browser) -> None:
    for _ in range(5):
        sign_in(browser, "x", "another")
    answer = sign_in(browser, "x", "another")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 301


def test_a_flood_of_passwords_leaves_the_page_to_others_and_is_told_to_wait(
    browser: Browser, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "PATIENCE_S", 0.05)
    take_session(browser, database, "ada")
    monkeypatch.setattr(browser._app.state.people, "_room", asyncio.Semaphore(0))
    answer = sign_in(browser, "ada", PASSWORD)
    assert (answer.status_code, int(answer.headers["retry-after"])) == (429, 1)
    monkeypatch.setattr(browser._app.state.people, "_room", asyncio.Semaphore(0))
    assert browser.act("/account/password", present=PASSWORD, new=NEW, again=NEW).status_code == 429
    assert browser.get("/account").status_code == 200


@pytest.mark.parametrize("given", ["", "another"])
def test_nobody_is_signed_in_by_a_form_of_another_site(browser: Browser, given: str) -> None:
    """Signed in as the attacker, a person would upload into the attacker's hands."""
    browser.get("/sign-in")
    fields = {"form": given, "name": "ada", "password": PASSWORD}
    assert browser.request("POST", "/sign-in", {"Origin": ORIGIN}, fields).status_code == 403
    browser.cookies.clear()
    assert browser.request("POST", "/sign-in", {"Origin": ORIGIN}, fields).status_code == 403
    assert browser.request("POST", "/sign-in", {"Origin": "https://evil.example"}, fields).status_code == 403
    assert browser.key == ""


def test_what_acts_needs_the_token_of_the_session(browser: Browser, database: Database) -> None:
    take_session(browser, database, "ada")
    others = token("another session")
    for given in ("", others, token(OWN_PASSWORD), browser.key):
        answer = browser.request("POST", "/account/tokens", {TOKEN_HEADER: given, "Origin": ORIGIN}, {"name": "x"})
        assert (answer.status_code, TOKEN_HEADER in answer.json()["error"]) == (403, True)
    assert list_tokens(database, "ada") == []
    page = browser.get("/account").text
    assert f'name="studio-token" content="{token(browser.key)}"' in page
    assert token(OWN_PASSWORD) not in page


def test_a_program_acts_with_a_token_of_an_account_and_no_other(browser: Browser, database: Database) -> None:
    """The run cannot start, because it has no parameters: that is asked behind the doors."""
    for key, statuses in [
        (add_token(database, "ada"), {400, 502}),
        (add_token(database, "ada", UserRole.VIEWER), {403}),
    ]:
        answer = browser.request("POST", "/start/train-model", {"Authorization": f"Bearer {key}"})
        assert answer.status_code in statuses  # 502 where no Prefect is there


def test_headers_of_anybody_else_name_nobody(accounts_settings: StackSettings, browser: Browser) -> None:
    forged = {NAME_HEADER: "boss", ROLE_HEADER: "admin"}
    for secret in ({}, {SECRET_HEADER: ""}, {SECRET_HEADER: "guessed"}):
        assert ask_directly(accounts_settings, "GET", "/accounts", headers=forged | secret).status_code == 401
    assert ask_directly(accounts_settings, "GET", "/accounts", headers={SECRET_HEADER: SECRET}).status_code == 401
    assert browser.get("/accounts", **forged).status_code == 302


@pytest.mark.parametrize("secret", [{}, {SECRET_HEADER: "guessed"}])
def test_the_question_of_the_front_door_is_answered_to_nobody_else(
    accounts_settings: StackSettings, secret: dict[str, str]
) -> None:
    own = (USER, OWN_PASSWORD)
    assert ask_directly(accounts_settings, "GET", "/auth/check", headers=secret).status_code == 401
    assert ask_directly(accounts_settings, "GET", "/auth/check", headers=secret, auth=own).status_code == 404


def test_the_owner_of_the_machine_is_an_admin_with_the_password_alone(
    accounts_settings: StackSettings, browser: Browser
) -> None:
    own = {"auth": (USER, OWN_PASSWORD)}
    page = ask_directly(accounts_settings, "GET", "/accounts", **own)
    assert (page.status_code, "who owns this machine" in page.text) == (200, True)
    acting = own | {"headers": {TOKEN_HEADER: token(OWN_PASSWORD)}, "data": {"name": "cyd", "role": "viewer"}}
    assert ask_directly(accounts_settings, "POST", "/accounts", **acting).status_code == 200
    assert ask_directly(accounts_settings, "GET", "/account", **own).status_code == 404
    assert ask_directly(accounts_settings, "GET", "/sign-in", **own).status_code == 404
    assert browser.get("/live").status_code == 302


def test_people_change_their_password_and_stay_signed_in_here_alone(browser: Browser, database: Database) -> None:
    take_session(browser, database, "ada")
    elsewhere = browser.key
    take_session(browser, database, "ada")
    wrong = [
        ({"present": "another", "new": NEW, "again": NEW}, "Expected name and password"),
        ({"present": PASSWORD, "new": "short", "again": "short"}, "Expected a password of 12"),
        ({"present": PASSWORD, "new": NEW, "again": "x"}, "two that differ"),
        ({"present": PASSWORD, "new": PASSWORD, "again": PASSWORD}, "found the present one"),
        ({}, "Expected a password of 12"),
    ]
    for fields, message in wrong:
        answer = browser.act("/account/password", **fields)
        assert (answer.status_code, message in answer.text) == (400, True), message
    before = browser.key
    assert browser.act("/account/password", present=PASSWORD, new=NEW, again=NEW).status_code == 200
    assert browser.key not in {"", before}
    assert browser.get("/account").status_code == 200
    for key in (before, elsewhere):
        browser.cookies["__Host-studio-session"] = key
        assert browser.get("/account").status_code == 302
    assert sign_in(browser, "ada", PASSWORD).status_code == 403
    assert sign_in(browser, "ada", NEW).status_code == 303


def test_a_handed_over_password_leads_to_a_new_one_first(browser: Browser, database: Database) -> None:
    first = add_account(database, "cyd", UserRole.VIEWER, STACK_OWNER)
    sign_in(browser, "cyd", first)
    assert browser.get("/live").headers["location"] == "/account"
    assert "Choose one of your own first" in browser.get("/account").text
    browser.act("/account/password", present=first, new=NEW, again=NEW)
    assert browser.get("/live").status_code == 200


def test_a_token_is_shown_once_and_revoked(browser: Browser, database: Database) -> None:
    take_session(browser, database, "ada")
    answer = browser.act("/account/tokens", name="laptop", role="viewer", days="7")
    (key,) = re.findall(r"studio_[\w-]{43}", answer.text)
    owner = find_token(database, key)
    assert owner is not None
    assert (owner.name, owner.role) == ("ada", UserRole.VIEWER)
    listed = browser.get("/account/tokens").text
    assert ("laptop" in listed, key in listed) == (True, False)
    (token_kept,) = list_tokens(database, "ada")
    browser.act(f"/account/tokens/{token_kept.id}/revoke")
    assert find_token(database, key) is None


WRONG_TOKENS = [{}, {"name": "x", "role": "admin", "days": "7"}, {"name": "x", "role": "owner", "days": "7"}]
WRONG_TOKENS += [{"name": "x", "role": "viewer", "days": days} for days in ("", "0", "367", "-1", "1e3", "x")]


@pytest.mark.parametrize("fields", WRONG_TOKENS, ids=str)
def test_a_token_that_cannot_be_is_refused_in_words(
    browser: Browser, database: Database, fields: dict[str, str]
) -> None:
    take_session(browser, database, "ada")
    answer = browser.act("/account/tokens", **fields)
    assert (answer.status_code, "Expected" in answer.text) == (400, True)
    assert list_tokens(database, "ada") == []


def test_people_end_a_session_elsewhere(browser: Browser, database: Database) -> None:
    take_session(browser, database, "ada")
    elsewhere = browser.key
    take_session(browser, database, "ada")
    listed = browser.get("/account/sessions").text
    assert listed.count("this one") == 1
    (session,) = re.findall(r"/account/sessions/(\d+)/end", listed)
    browser.act(f"/account/sessions/{session}/end")
    assert browser.get("/account").status_code == 200
    browser.cookies["__Host-studio-session"] = elsewhere
    assert browser.get("/account").status_code == 302


def test_admins_make_change_and_remove_accounts(browser: Browser, database: Database) -> None:
    take_session(browser, database, "boss")
    made = browser.act("/accounts", name="cyd", role="operator")
    (password,) = re.findall(r"(?:[0-9a-f]{8}-){3}[0-9a-f]{8}", made.text)
    assert sign_in(open_other(browser), "cyd", password).status_code == 303
    browser.act("/accounts/cyd/role", role="viewer")
    account = find_account(database, "cyd")
    assert account is not None
    assert account.role == UserRole.VIEWER
    browser.act("/accounts/cyd/disable")
    assert sign_in(open_other(browser), "cyd", password).status_code == 403
    browser.act("/accounts/cyd/enable")
    taken: list[str] = []
    browser._app.state.people.take_store_key = taken.append
    assert re.search(r"(?:[0-9a-f]{8}-){3}[0-9a-f]{8}", browser.act("/accounts/cyd/reset-password").text)
    assert taken == ["cyd"]
    assert "cyd" in browser.get("/accounts/list").text
    browser.act("/accounts/cyd/remove")
    assert find_account(database, "cyd") is None
    assert [each.action for each in audit_of(database) if each.name == "boss" and each.part == "accounts"] == [
        *("account-removed", "password-reset", "account-enabled", "account-disabled", "role-changed"),
        *("account-added", "sign-in"),
    ]


def open_other(browser: Browser) -> Browser:
    """Another browser on the same page."""
    return Browser(browser._app, "192.0.2.8")


@pytest.mark.parametrize("name", ["ada", "vic"])
def test_nobody_but_an_admin_reaches_accounts_and_audit(browser: Browser, database: Database, name: str) -> None:
    take_session(browser, database, name)
    page = browser.get("/live").text
    assert ("/accounts" in page, "/audit" in page) == (False, False)
    for path in ("/accounts", "/accounts/list", "/audit", "/audit/list"):
        assert browser.get(path).status_code == 403
    for path in ("/accounts", "/accounts/ada/role", "/accounts/boss/remove"):
        assert browser.act(path, name="x", role="admin").status_code == 403
    assert find_account(database, "boss") is not None


@pytest.mark.usefixtures("browser")
def test_the_page_of_accounts_refuses_by_itself_who_is_no_admin(accounts_settings: StackSettings) -> None:
    """A second door: whatever the front door asks before."""
    for role in ("viewer", "operator"):
        headers = {SECRET_HEADER: SECRET, NAME_HEADER: "ada", ROLE_HEADER: role, "Authorization": "Bearer x"}
        for method, path in [("GET", "/accounts/list"), ("POST", "/accounts"), ("POST", "/accounts/boss/remove")]:
            answer = ask_directly(accounts_settings, method, path, headers=headers, data={"name": "x", "role": "admin"})
            assert answer.status_code == 403, path
        assert ask_directly(accounts_settings, "GET", "/audit/list", headers=headers).status_code == 403


def test_the_last_admin_is_told_why_nothing_happens(browser: Browser, database: Database) -> None:
    take_session(browser, database, "boss")
    answer = browser.act("/accounts/boss/role", role="viewer")
    assert (answer.status_code, "at least one admin" in answer.text) == (400, True)


def test_a_role_that_is_lowered_closes_the_page_that_is_open(browser: Browser, database: Database) -> None:
    add_person(database, "second", UserRole.ADMIN)
    take_session(browser, database, "boss")
    assert browser.get("/accounts").status_code == 200
    set_role(database, "boss", UserRole.VIEWER, STACK_OWNER)
    assert browser.get("/accounts").status_code == 403
    assert browser.act("/accounts", name="x", role="admin").status_code == 403


def test_what_a_viewer_may_not_do_is_not_offered_and_is_refused(browser: Browser, database: Database) -> None:
    pages = {"/registered-models": "Register weights", "/datasets": "Upload archives", "/runs": "Clean up"}
    for name, is_offered in [("vic", False), ("ada", True)]:
        take_session(browser, database, name)
        assert {browser.get(path).text.count(words) > 0 for path, words in pages.items()} == {is_offered}
    take_session(browser, database, "vic")
    assert browser.act("/start/clean-up").status_code == 403
    assert browser.act("/uploads").status_code == 403


def test_the_audit_log_is_shown_by_filter_and_page(browser: Browser, database: Database) -> None:
    take_session(browser, database, "ada")
    for _ in range(101):
        browser.act("/start/x")
    browser.act("/accounts/<b>")
    take_session(browser, database, "boss")
    assert browser.get("/audit?user=ada&part=studio").text.count('value="ada"') == 1
    first = browser.get("/audit/list?user=ada&part=studio&outcome=allowed").text
    assert first.count("/start/x") == 100
    (cursor,) = re.findall(r"cursor=([\w-]+)", first)
    older = browser.get(f"/audit/list?user=ada&part=studio&outcome=allowed&cursor={cursor}").text
    assert older.count("/start/x") == 1
    refused = browser.get("/audit/list?user=ada&outcome=refused").text
    assert ("/accounts/&lt;b&gt;" in refused, "<b>" in refused) == (True, False)
    for query in ("cursor=x", f"user=vic&cursor={cursor}", "since=yesterday", "since=2026-02-30"):
        assert browser.get(f"/audit/list?{query}").status_code == 400, query
    for query in ("user=%00", "part=%ff", "since=2999-01-01"):
        assert "Nothing of this choice" in browser.get(f"/audit/list?{query}").text, query


def test_without_the_database_nothing_passes_but_what_it_takes_to_sign_in(accounts_settings: StackSettings) -> None:
    away = replace(services_with(accounts_settings), accounts_url="postgresql+psycopg2://x:x@127.0.0.1:1/studio")
    browser = Browser(application(away))
    browser.cookies["__Host-studio-session"] = "a session"
    answers = [browser.get("/live"), browser.request("GET", "/live", {"Authorization": "Bearer studio_x"})]
    answers.append(browser.act("/start/train-model"))
    assert [(each.status_code, each.headers["retry-after"]) for each in answers] == [(503, "5")] * 3
    assert "Expected an answer of the database of accounts" in answers[0].json()["error"]
    assert browser.get("/sign-in").status_code == 200
    assert sign_in(browser, "ada", PASSWORD).status_code == 502


def test_the_service_that_make_up_starts_answers_the_front_door(
    accounts_settings: StackSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process of its own, with the environment of the service and no other."""
    add_person(database, "ada")
    key = add_session(database, "ada")
    monkeypatch.setenv("STUDIO_LIVE_PORT", str(free_port()))
    settings = accounts_settings.model_copy(update={"live_port": int(os.environ["STUDIO_LIVE_PORT"])})
    service = front_page(settings)
    address = f"http://127.0.0.1:{settings.live_port}"
    asked = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/prefect/", "X-Forwarded-Host": "studio.example"}
    known = {SECRET_HEADER: settings.secrets["front_door"], "Cookie": f"__Host-studio-session={key}"}
    environment = service.environment | {"STUDIO_LIVE_PORT": str(settings.live_port)}
    with subprocess.Popen(service.command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: answers(f"{address}/live"), "the front page", 120)
            answer = httpx.get(f"{address}/auth/check", headers=asked | known, trust_env=False)
            assert (answer.status_code, answer.headers[NAME_HEADER]) == (204, "ada")
            forged = httpx.get(f"{address}/auth/check", headers=asked | known | {SECRET_HEADER: "x"}, trust_env=False)
            assert forged.status_code == 401
            acting = asked | known | {"X-Forwarded-Method": "POST", "X-Forwarded-Uri": "/start/x"}
            assert httpx.get(f"{address}/auth/check", headers=acting, trust_env=False).status_code == 204
        finally:
            process.terminate()
        assert process.stdout is not None
        (line,) = process.stdout
    assert json.loads(line)["audit"]["path"] == "/start/x"
    assert "STUDIO_ADMIN_PASSWORD" not in service.environment
    assert settings.accounts_url not in worker(settings).environment.values()


def answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_without_accounts_nothing_of_them_is_imported_and_no_page_of_them_is_there() -> None:
    script = (
        "import sys; from infra.front_page.application import Services, application; "
        "app = application(Services(triton_url='x', triton_key='', password='p', store_url='x')); "
        "print(sorted(name for name in sys.modules if name.startswith(('infra.accounts', 'sqlalchemy', 'jwt')))); "
        "print([route.path for route in app.routes if route.path.startswith(('/account', '/sign', '/audit'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules, paths = done.stdout.splitlines()
    plain = (
        "cookies",
        "errors",
        "names",
        "permissions",
        "roles",
        "starters",
        "visitors",
    )  # values and rules, without a library
    assert modules == str(["infra.accounts", *(f"infra.accounts.{name}" for name in plain)])
    assert paths == "[]"
