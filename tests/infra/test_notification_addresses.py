"""STUDIO_NOTIFY: which addresses are in it, and what is said of a wrong one."""

import logging

import pytest

from infra.command_errors import StackError
from infra.notification_addresses import parse_addresses

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MAIL = "mailtos://smtp.example.com:587?user=a&pass=b%2Fc&from=a@x.org&to=b@y.org,c@z.org"
WRONG = {
    "unknown service": "slak://hush-hush",
    "no address": "hush-hush",
    "a host is missing": "json://me:hush-hush@/y",
    "a token is missing": "slack://hush-hush",
    "a port is none": "json://hush-hush:eighty/",
}


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n", " \t\n", ",\n"])
def test_several_are_told_apart_and_a_comma_inside_one_stays(between: str) -> None:
    found = parse_addresses(f" {SLACK}{between}{MAIL}{between}json://127.0.0.1:8080/x?format=markdown{between}")
    assert found == (f"{SLACK}?format=text", f"{MAIL}&format=text", "json://127.0.0.1:8080/x?format=markdown")


@pytest.mark.parametrize("nothing", ["", "  ", "\n", ","])
def test_none_is_no_error(nothing: str) -> None:
    assert parse_addresses(nothing) == ()


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_one_is_named_and_its_secret_is_not(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StackError, match=r"number 2 of 3.*Correct it") as error:
        parse_addresses(f"{SLACK} {WRONG[wrong]} {MAIL}")
    assert "hush" not in str(error.value) + caplog.text
    assert not logging.getLogger("apprise").disabled
