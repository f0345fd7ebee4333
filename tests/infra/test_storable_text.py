"""Which JSON a database cannot keep, found in pieces of any size, and what the door does with it."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.storable_text import Reader, StorableText, to_storable

# Of everything that JSON can hold, mostly what is on the edge.
edges = st.sampled_from(
    [
        "\\",
        '"',
        "u",
        "0000",
        "\0",
        "\ud83d",
        "\ude00",
        "\ud83d\ude00",
        "😀",
        "é",
        "\ud7ff",
        "\ue000",
        "\\u0000",
        "\n",
        "x",
    ]
)
texts = st.lists(edges | st.characters()).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def strings(value: object) -> list[str]:
    """All strings of a value."""
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def can_be_kept(value: object) -> bool:
    """Whether PostgreSQL takes all strings of a value."""
    try:
        return all("\0" not in text and text.encode() is not None for text in strings(value))
    except UnicodeEncodeError:
        return False


def read(body: bytes, cuts: list[int]) -> tuple[Reader, bytes]:
    """What comes of a body that is read in pieces."""
    reader, places = Reader(), sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[a:b] for a, b in itertools.pairwise(places)] or [b""]
    read = b"".join(reader.read(piece, is_last=n == len(pieces) - 1) for n, piece in enumerate(pieces))
    return reader, read


@settings(deadline=None)
@given(values, st.booleans(), st.lists(st.integers(0, 2000), max_size=8))
def test_what_cannot_be_kept_is_found_wherever_a_body_is_cut(value: Any, ascii_only: bool, cuts: list[int]) -> None:
    """As escapes, and as the bytes that Python's reader takes for surrogates; and all else stays as it is."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    value = json.loads(body)  # escapes of two halves beside each other are one character
    reader, after = read(body, cuts)
    assert (reader.found is None) == can_be_kept(value)
    if reader.found is None:
        assert after == body
    assert len(after) == len(body)
    assert can_be_kept(json.loads(after))
    assert to_storable(body.decode("utf-8", "surrogatepass")).encode() == after


SCRAPS = st.sampled_from([b"\0", rb"\u0000", rb"\ud83d", rb"\ude00", b"\xed\xa0\xbd", b"\xed", b"\\", rb"\u", rb"\ud8"])


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9) | SCRAPS, max_size=9).map(b"".join), st.lists(st.integers(0, 60), max_size=8))
def test_what_is_no_json_is_the_services_to_refuse(body: bytes, cuts: list[int]) -> None:
    assert len(read(body, cuts)[1]) == len(body)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_json_are_refused(encoding: str) -> None:
    """Python's reader takes them, too, and an escape in them would not be seen."""
    assert read('{"name": "\\u0000"}'.encode(encoding), [])[0].found == b"\0"


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """A service that takes an error while it reads for a body that is no JSON, as FastAPI does."""
    try:
        body = await Request(scope, receive).body()
    except Exception:  # noqa: BLE001
        await Response("what was that", 400)(scope, receive, send)
        return
    await Response(body)(scope, receive, send)


def sent(pieces: list[bytes], path: str = "/api/flows", app: Any = _echo, **options: Any) -> tuple[int, bytes]:
    """Status and body of the answer to a body in pieces."""
    waiting, answer = list(pieces), list[dict[str, Any]]()

    async def receive() -> Any:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        answer.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    asyncio.run(StorableText(app, **options)(scope, receive, send))
    assert [message["type"] for message in answer] == ["http.response.start", "http.response.body"]
    return answer[0]["status"], answer[1]["body"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (rb'{"name": "a\u0000"}', "NUL"),
        (rb'{"name": "a\\\u0000"}', "NUL"),
        (b'{"name": "a\0"}', "NUL"),
        (rb'{"\u0000": 1}', "NUL"),
        (rb'{"name": "\ud83d"}', "surrogate"),
        (rb'{"name": "\ude00\ud83d"}', "surrogate"),
        (rb'{"name": "\uD83D\u0041"}', "surrogate"),
        (b'{"name": "\xed\xa0\xbd\xed\xb8\x80"}', "surrogate"),
        (rb'{"name": "a\\u0000"}', None),
        (rb'{"name": "\\\\ud83d"}', None),
        (rb'{"name": "\ud83d\ude00"}', None),
        (b'{"name": "\xed\x9f\xbf"}', None),
        (rb'{"name": "\u000', None),
        (b"", None),
    ],
)
def test_a_body_is_refused_with_a_sentence_or_arrives_as_it_is(body: bytes, found: str | None) -> None:
    for pieces in ([body], [body[n : n + 1] for n in range(len(body))] or [b""]):
        status, answer = sent(pieces)
        if found is None:
            assert (status, answer) == (200, body)
        else:
            assert status == 422
            assert found in json.loads(answer)["error"]


def test_of_what_nobody_reads_the_answer_the_rest_counts() -> None:
    body = rb'[{"message": "a\u0000b"}, {"message": "c\ud83d"}]'
    assert sent([body], "/api/logs/", mended=("/api/logs/",)) == (
        200,
        body.replace(rb"\u0000", rb"\ufffd").replace(rb"\ud83d", rb"\ufffd"),
    )


def test_files_are_not_looked_at() -> None:
    assert sent([b"\0\xed\xa0\x80"], "/artifacts/x", is_file=lambda path: path.startswith("/artifacts/")) == (
        200,
        b"\0\xed\xa0\x80",
    )


def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    async def hasty(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    assert sent([b'"\0"'], app=hasty) == (401, b'"\0"')


def test_an_error_of_the_service_stays_one() -> None:
    async def broken(*_: Any) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        sent([b"{}"], app=broken)


def test_a_message_of_a_websocket_is_mended() -> None:
    heard: list[Any] = []

    async def listening(_: Scope, receive: Receive, __: Send) -> None:
        heard.extend([await receive(), await receive()])

    messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": r'{"a": "\u0000\ude00\\u0000"}'}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None:
        """Nothing is sent."""

    asyncio.run(StorableText(listening)({"type": "websocket", "path": "/"}, receive, send))
    assert heard[1]["text"] == r'{"a": "\ufffd\ufffd\\u0000"}'
