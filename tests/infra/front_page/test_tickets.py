"""Tickets open the files of one folder, for a while."""

import time

import pytest

from infra.front_page.tickets import VALID_S, is_valid, issue_ticket

FOLDER = "runs/7d444840-9dc0-41d1-b245-5ffdce74fad2"


def test_a_ticket_is_for_its_folder_and_its_hours() -> None:
    ticket, now = issue_ticket("password", FOLDER), time.time()
    assert is_valid(ticket, "password", FOLDER, now)
    assert is_valid(ticket, "password", FOLDER, now + VALID_S - 60)
    assert not is_valid(ticket, "password", FOLDER, now + VALID_S + 60)
    assert not is_valid(ticket, "password", f"{FOLDER}0", now)
    assert not is_valid(ticket, "another", FOLDER, now)


@pytest.mark.parametrize("forged", ["", "-", "9999999999", "9999999999-", "inf-0", "nan-0", "x-é", "9999999999-{0}"])
def test_a_ticket_that_somebody_made_opens_nothing(forged: str) -> None:
    own = issue_ticket("password", FOLDER).partition("-")[2]
    assert not is_valid(forged.format(own), "password", FOLDER, time.time())
