"""Cursors, which come back from outside."""

import base64
import json
import string
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.catalogue.cursors import MAX_LIMIT, CatalogueError, ListRequest


def request(cursor: str = "", listing: str = "archives", limit: int = 50, **filters: str) -> ListRequest:
    return ListRequest(listing=listing, filters=filters, cursor=cursor, limit=limit)


@given(st.text(), st.text(), st.text())
def test_a_list_gets_back_where_its_page_ended(key: str, run: str, search: str) -> None:
    cursor = request(search=search).cursor_behind(key, run)
    assert set(cursor) <= {*string.ascii_letters, *string.digits, "-", "_"}  # goes into an address as it is
    assert request(cursor, search=search).position == (key, run)


def test_a_list_without_a_cursor_begins_at_its_beginning() -> None:
    assert request().position == ()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (request(listing="models"), "Expected a cursor of archives, found one of 'models'. Begin again"),
        (request(search="b"), "found one of 'archives' with 'search' 'b'. Begin again"),
        (request(verdict="valid", search="a"), "found one of 'archives' with 'verdict' 'valid' and 'search' 'a'"),
    ],
)
def test_a_cursor_of_another_list_or_of_other_filters_is_refused(other: ListRequest, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        _ = request(other.cursor_behind("a.zip")).position


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        *("x", "%%%", "ü", "W10", "a" * 100_000, encoded("[" * 5000), encoded(None), encoded(["archives", {}])),
        *(encoded(["archives", {}, [1]]), encoded(["archives", [], ["a"]]), encoded([["archives"], {}, ["a"]])),
        encoded(["archives", {}, ["\ud800.zip"]]),
        base64.urlsafe_b64encode(b"[" * 9_000).decode(),
    ],
)
def test_what_is_no_cursor_is_refused_with_a_short_message(cursor: str) -> None:
    with pytest.raises(CatalogueError, match="Expected a cursor of archives, found") as refused:
        _ = request(cursor).position
    assert len(str(refused.value)) < 300


@given(st.text())
def test_no_text_breaks_a_list(cursor: str) -> None:
    with pytest.raises(CatalogueError, match="Expected a cursor of archives") if cursor else nullcontext():
        assert request(cursor).position == ()


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT + 1])
def test_a_page_has_at_least_one_entry_and_at_most_its_limit(limit: int) -> None:
    with pytest.raises(CatalogueError, match=f"a limit from 1 to {MAX_LIMIT}, found {limit}"):
        request(limit=limit)
