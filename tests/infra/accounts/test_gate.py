"""What the front door is told of each request, with accounts in a real PostgreSQL."""

import base64
from dataclasses import replace

import pytest
from sqlalchemy import text

from infra.accounts.bootstrap import STACK_OWNER
from infra.accounts.database import Database
from infra.accounts.errors import DatabaseAwayError
from infra.accounts.gate import Answer, Asked, Gate, local_address
from infra.accounts.people import add_account, change_password, set_disabled, set_role
from infra.accounts.roles import UserRole
from infra.accounts.visitors import Visitor
from tests.infra.accounts.populations import PASSWORD, add_person, add_session, add_token, audit_of, pass_time

ASKED = Asked(method="GET", uri="/runs", host="studio.example:8443", address="192.0.2.7", request_id="r1")
OWN = ("https://studio.example:8443",)
PAGE = {"mode": "navigate", "destination": "document", "site": "none"}
ACTS = {"method": "POST", "uri": "/prefect/api/deployments/7/create_flow_run?key=secret"}
VISITOR_OF = {"session": Visitor(name="ada", role=UserRole.OPERATOR)}


def basic(name: str, key: str) -> tuple[str]:
    return ("Basic " + base64.b64encode(f"{name}:{key}".encode()).decode(),)


@pytest.fixture
def session(database: Database) -> str:
    """The key of a session of ada, an operator; there is an admin, too."""
    add_person(database, "boss", UserRole.ADMIN)
    add_person(database, "ada")
    key = add_session(database, "ada")
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE audit"))
    return key


@pytest.fixture
def gate(database: Database) -> Gate:
    return Gate(database)


def test_who_has_signed_in_passes_with_name_and_role(gate: Gate, session: str) -> None:
    assert gate.answer(replace(ASKED, session_key=session)) == Answer(status=204, visitor=VISITOR_OF["session"])


@pytest.mark.parametrize("way", ["bearer", "basic", "basic without a name is none"])
def test_a_program_passes_with_a_token_as_bearer_and_as_basic(
    gate: Gate, database: Database, session: str, way: str
) -> None:
    """The second is what the clients of Prefect and MLflow send."""
    key = add_token(database, "ada")
    sent = {"bearer": (f"Bearer {key}",), "basic": basic("ada", key)}.get(way, basic("", key))
    answer = gate.answer(replace(ASKED, authorization=sent))
    assert answer.status == (401 if "none" in way else 204)
    assert session


@pytest.mark.parametrize(
    "sent",
    [
        ("Bearer x",),
        ("Bearer studio_x",),
        ("Bearer",),
        ("",),
        ("Basic %%%",),
        basic("ada", PASSWORD),
        basic("ada", "x"),
        ("Digest username=ada",),
        ("Bearer a", "Bearer b"),
        ("Bearer \x00",),
    ],
    ids=str,
)
def test_what_is_no_token_is_refused_even_beside_a_good_cookie(gate: Gate, session: str, sent: tuple[str, ...]) -> None:
    answer = gate.answer(replace(ASKED, authorization=sent, session_key=session))
    assert (answer.status, answer.visitor, answer.headers) == (401, None, {"WWW-Authenticate": "Bearer"})
    assert "A password is no token" in answer.message


def test_a_token_of_another_name_is_refused(gate: Gate, database: Database, session: str) -> None:
    assert session
    assert gate.answer(replace(ASKED, authorization=basic("boss", add_token(database, "ada")))).status == 401


@pytest.mark.parametrize("reason", ["expired", "disabled"])
def test_a_token_that_has_expired_or_whose_owner_is_shut_is_refused(
    gate: Gate, database: Database, session: str, reason: str
) -> None:
    assert session
    sent = (f"Bearer {add_token(database, 'ada', days=1)}",)
    assert gate.answer(replace(ASKED, authorization=sent)).status == 204
    if reason == "expired":
        pass_time(database, "tokens", "expires", "1 day")
    else:
        set_disabled(database, "ada", STACK_OWNER, disabled=True)
    assert gate.answer(replace(ASKED, authorization=sent)).status == 401


def test_failed_tokens_of_one_address_are_bounded_and_good_ones_pass(
    gate: Gate, database: Database, session: str
) -> None:
    good = (f"Bearer {add_token(database, 'ada')}",)
    bad = replace(ASKED, authorization=("Bearer studio_x",))
    assert [gate.answer(bad).status for _ in range(31)] == [401] * 30 + [429]
    assert int(gate.answer(bad).headers["Retry-After"]) > 0
    assert gate.answer(replace(ASKED, authorization=good)).status == 204
    assert gate.answer(replace(bad, address="192.0.2.8")).status == 401
    assert sum(each.action == "token" for each in audit_of(database)) == 31
    assert session


@pytest.mark.parametrize(
    ("asked", "status", "headers"),
    [
        ({**PAGE, "uri": "/runs?flow=x&y"}, 302, {"Location": "/sign-in?next=%2Fruns%3Fflow%3Dx%26y"}),
        ({"accept": "text/html,*/*"}, 302, {"Location": "/sign-in?next=%2Fruns"}),
        ({"accept": "application/json"}, 401, {"WWW-Authenticate": "Bearer"}),
        ({**PAGE, "method": "POST"}, 401, {"WWW-Authenticate": "Bearer"}),
        (
            {"htmx_page": "https://studio.example:8443/models?a=b", "mode": "cors"},
            401,
            {"WWW-Authenticate": "Bearer", "HX-Redirect": "/sign-in?next=%2Fmodels%3Fa%3Db"},
        ),
        (
            {"htmx_page": "https://evil.example//evil.example/", "mode": "cors"},
            401,
            {"WWW-Authenticate": "Bearer", "HX-Redirect": "/sign-in?next=%2F"},
        ),
        ({"session_key": "unknown"}, 401, {"WWW-Authenticate": "Bearer"}),
    ],
)
def test_who_is_nobody_is_led_to_sign_in_and_a_program_is_told(
    gate: Gate, asked: dict[str, str], status: int, headers: dict[str, str]
) -> None:
    answer = gate.answer(replace(ASKED, **asked))  # type: ignore[arg-type]
    assert (answer.status, answer.visitor, answer.headers) == (status, None, headers)


@pytest.mark.parametrize("uri", ["/sign-in?next=/runs", "/sign-in/oidc", "/static/studio.css", "/favicon.ico"])
def test_what_it_takes_to_sign_in_is_open(gate: Gate, uri: str) -> None:
    assert gate.answer(replace(ASKED, uri=uri)) == Answer(status=204)


@pytest.mark.parametrize(
    "uri",
    [
        "/sign-in/",
        "/sign-in/x",
        "/staticx",
        "/static",
        "/sign-inx",
        "/live",
        "/models",
        "/predict/x",
        "/s3-events",
        "/",
    ],
)
def test_nothing_else_is_open(gate: Gate, uri: str) -> None:
    assert gate.answer(replace(ASKED, uri=uri)).status == 401


@pytest.mark.parametrize(
    "uri", ["/static/../accounts", "/static/%2e%2e/runs", "/./runs", "runs", "*", "/a%00", "/a%0d%0ab"]
)
def test_a_path_that_services_could_read_in_two_ways_is_refused(gate: Gate, session: str, uri: str) -> None:
    assert gate.answer(replace(ASKED, uri=uri, session_key=session)).status == 400


def test_the_question_itself_is_nobodys_page(gate: Gate, session: str) -> None:
    assert gate.answer(replace(ASKED, uri="/auth/check", session_key=session)).status == 404


FOREIGN = [
    {"origins": ("https://evil.example",)},
    {"origins": ("null",)},
    {"origins": ("http://studio.example:8443",)},
    {"origins": (*OWN, "https://evil.example")},
    {"site": "cross-site", "mode": "no-cors", "destination": "image"},
    {"site": "same-site", "mode": "cors", "destination": "empty"},
    {"site": "cross-site", "mode": "navigate", "destination": "iframe"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("what", ["read", "act", "socket"])
@pytest.mark.parametrize("way", ["cookie", "token"])
def test_a_page_of_another_site_gets_nothing_even_with_cookie_or_token(
    gate: Gate, database: Database, session: str, headers: dict[str, str], what: str, way: str
) -> None:
    known = (
        {"session_key": session} if way == "cookie" else {"authorization": (f"Bearer {add_token(database, 'ada')}",)}
    )
    asked = replace(ASKED, **known)
    if what != "read":
        asked = replace(asked, **(ACTS if what == "act" else {"uri": "/prefect/api/events/out", "is_socket": True}))
    assert gate.answer(replace(asked, origins=OWN)).status == 204
    assert gate.answer(replace(asked, **headers)).status == 403  # type: ignore[arg-type]
    newest = audit_of(database)[0]
    assert (newest.name, newest.action, newest.allowed) == ("ada", "foreign-page", False)


def test_a_link_from_another_site_may_be_followed_and_no_form_of_it_be_sent(gate: Gate, session: str) -> None:
    link = replace(ASKED, session_key=session, site="cross-site", mode="navigate", destination="document")
    assert gate.answer(link).status == 204
    assert gate.answer(replace(link, method="POST", uri="/start/train-model")).status == 403
    assert gate.answer(replace(link, session_key="", method="POST", uri="/sign-in")).status == 403


def test_a_role_that_is_not_enough_is_refused_and_kept(gate: Gate, database: Database, session: str) -> None:
    asked = replace(ASKED, session_key=session, uri="/accounts")
    answer = gate.answer(asked)
    assert (answer.status, answer.visitor) == (403, None)
    assert "Expected the role admin for this, found ada, who is operator" in answer.message
    (entry,) = audit_of(database)
    assert (entry.name, entry.role, entry.part, entry.path, entry.allowed) == (
        *("ada", "operator", "studio", "/accounts"),
        False,
    )
    set_role(database, "ada", UserRole.ADMIN, STACK_OWNER)
    assert gate.answer(asked).status == 204


def test_what_acts_is_in_the_audit_log_without_its_query_and_what_reads_is_not(
    gate: Gate, database: Database, session: str
) -> None:
    asked = replace(ASKED, session_key=session, origins=OWN)
    assert gate.answer(asked).status == 204
    assert audit_of(database) == []
    assert gate.answer(replace(asked, **ACTS)).status == 204  # type: ignore[arg-type]
    (entry,) = audit_of(database)
    assert (entry.name, entry.role, entry.part, entry.action, entry.method, entry.path) == (
        *("ada", "operator", "prefect", "request", "POST"),
        "/prefect/api/deployments/7/create_flow_run",
    )
    assert (entry.address, entry.request_id, entry.allowed) == ("192.0.2.7", "r1", True)


def test_of_what_a_worker_does_all_the_time_the_runs_are_kept_that_it_starts_and_what_it_is_refused(
    gate: Gate, database: Database
) -> None:
    add_person(database, "gpu-7", UserRole.WORKER)
    key = add_token(database, "gpu-7", UserRole.WORKER)
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE audit"))
    asked = replace(ASKED, method="POST", authorization=(f"Bearer {key}",))
    for path in ("/prefect/api/logs/", "/prefect/api/work_pools/gpu/get_scheduled_flow_runs", ACTS["uri"]):
        assert gate.answer(replace(asked, uri=path)).status == 204
    for path in ("/prefect/api/deployments/", "/prefect/api/flow_runs/7/resume"):
        assert gate.answer(replace(asked, uri=path)).status == 403
    assert [(entry.name, entry.allowed, entry.path) for entry in reversed(audit_of(database))] == [
        ("gpu-7", True, "/prefect/api/deployments/7/create_flow_run"),
        ("gpu-7", False, "/prefect/api/deployments/"),
        ("gpu-7", False, "/prefect/api/flow_runs/7/resume"),
    ]
    key = add_session(database, "gpu-7")
    logs = "/prefect/api/logs/"
    assert gate.answer(replace(asked, uri=logs, authorization=(), session_key=key)).status == 204
    assert audit_of(database)[0].path == logs


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"method": "DELETE", "uri": "/prefect/api/variables/name/x"}, ["DELETE"]),
        ({"uri": "/prefect/api/events/in", "is_socket": True}, ["WEBSOCKET"]),
        ({"uri": "/prefect/api/events/out", "is_socket": True}, []),
        ({"uri": "/accounts"}, []),
    ],
)
def test_what_an_admin_does_is_kept_a_socket_that_writes_too(
    gate: Gate, database: Database, session: str, asked: dict[str, str], kept: list[str]
) -> None:
    set_role(database, "ada", UserRole.ADMIN, STACK_OWNER)
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE audit"))
    assert gate.answer(replace(ASKED, session_key=session, origins=OWN, **asked)).status == 204  # type: ignore[arg-type]
    assert [entry.method for entry in audit_of(database)] == kept


def test_what_a_service_has_refused_is_kept_with_the_reason(gate: Gate, database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("TRUNCATE audit"))
    gate.keep_refusal(replace(ASKED, **ACTS), Visitor(name="ada", role=UserRole.OPERATOR), "expected x, found y")  # type: ignore[arg-type]
    (entry,) = audit_of(database)
    assert (entry.name, entry.role, entry.allowed, entry.detail) == ("ada", "operator", False, "expected x, found y")
    assert entry.path == "/prefect/api/deployments/7/create_flow_run"


def test_what_cannot_be_kept_in_the_audit_log_does_not_happen_and_reading_goes_on(
    gate: Gate, database: Database, session: str
) -> None:
    """A table that takes no row stands in for a disk that is full."""
    with database.transaction() as connection:
        connection.execute(text("ALTER TABLE audit ADD CONSTRAINT no_room CHECK (false) NOT VALID"))
    try:
        assert gate.answer(replace(ASKED, session_key=session)).status == 204
        with pytest.raises(DatabaseAwayError):
            gate.answer(replace(ASKED, session_key=session, **ACTS))  # type: ignore[arg-type]
    finally:
        with database.transaction() as connection:
            connection.execute(text("ALTER TABLE audit DROP CONSTRAINT no_room"))


def test_a_password_that_was_handed_over_opens_the_page_of_the_account_alone(gate: Gate, database: Database) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    add_account(database, "ada", UserRole.ADMIN, STACK_OWNER)
    asked = replace(ASKED, session_key=add_session(database, "ada"))
    answer = gate.answer(replace(asked, **PAGE))  # type: ignore[arg-type]
    assert (answer.status, answer.headers) == (302, {"Location": "/account"})
    for uri in ("/runs", "/accounts", "/accountx", "/prefect/account", "/mlflow/", "/predict/x"):
        assert gate.answer(replace(asked, uri=uri)).status == 403, uri
    for uri in ("/account", "/account/password", "/sign-out", "/static/studio.css"):
        assert gate.answer(replace(asked, uri=uri)).status == 204, uri
    change_password(database, "ada", "a password of her own", STACK_OWNER)
    assert gate.answer(replace(asked, session_key=add_session(database, "ada"))).status == 204


@pytest.mark.parametrize("uri", ["/account", "/account/tokens", "/accounts", "/accounts/ada/role"])
def test_a_token_makes_no_token_and_changes_no_account(gate: Gate, database: Database, uri: str) -> None:
    add_person(database, "boss", UserRole.ADMIN)
    sent = (f"Bearer {add_token(database, 'boss', UserRole.ADMIN)}",)
    answer = gate.answer(replace(ASKED, authorization=sent, uri=uri, method="POST"))
    assert (answer.status, "found a token" in answer.message) == (403, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/runs?flow=x", "/runs?flow=x"),
        ("/prefect/", "/prefect/"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("/\t/evil.example", "/"),
        ("/sign-in?next=/", "/"),
        ("/sign-out", "/"),
    ],
)
def test_after_signing_in_one_goes_on_at_this_site_alone(text: str, expected: str) -> None:
    assert local_address(text) == expected
