"""What a person fills in, and what the form says about a version."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.deployment.approval_form import MAX_COMMENT, ApprovalForm, describe, parse_form, unanswered, with_links
from tasks.errors import StudioError

DEADLINE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
FILLED: dict[str, Any] = {"decision": "approve", "name": "Ann", "comment": "looks good"}


def test_a_form_keeps_what_was_filled_in() -> None:
    form = parse_form(FILLED)
    assert (form.decision, form.signed, form.remark) == ("approve", "Ann", "looks good")


def test_lines_and_control_characters_of_a_comment_become_spaces() -> None:
    form = parse_form(FILLED | {"name": " Ann\n<b> ", "comment": "<script>\r\n\x00a\x1b[31m"})
    assert (form.signed, form.remark) == ("Ann <b>", "<script> a [31m")


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"decision": "maybe"}, "decision"),
        ({"name": ""}, "name"),
        ({"name": " \n"}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"comment": "x" * 100_000}, "comment"),
        ({"more": 1}, "more"),
    ],
)
def test_what_does_not_fit_the_form_is_refused_by_name(fault: dict[str, Any], named: str) -> None:
    with pytest.raises(StudioError, match=f"found {named}: .* answer again") as raised:
        parse_form(FILLED | fault)
    assert len(str(raised.value)) < 1000


def test_prefect_gets_the_bounds_in_the_schema() -> None:
    schema = ApprovalForm.model_json_schema()
    assert schema["required"] == ["decision", "name"]
    assert schema["properties"]["comment"]["maxLength"] == MAX_COMMENT
    assert schema["properties"]["decision"]["enum"] == ["approve", "refuse"]
    assert schema["additionalProperties"] is False


def test_nobody_refuses() -> None:
    form = unanswered(DEADLINE)
    assert (form.decision, form.signed) == ("refuse", "nobody")
    assert form.remark == "There was no answer until 2026-01-02T03:04:00+00:00."


def test_the_form_compares_the_version_with_the_champion() -> None:
    tags = {
        "metrics": '{"mAP50": 0.9, "mAP50-95": 0.75}',
        "promotion_reason": "better by <b>0.05</b>",
        "parity": "passed",
        "parity_agreement": "0.998",
    }
    facts = describe("shapes version 3", tags, ("version 2", {"metrics": '{"mAP50-95": 0.7}'}), DEADLINE)
    text = with_links(facts, {"Version 3": {"Run": "http://a"}, "Parity": {}})
    assert "It would replace version 2." in text
    assert "| mAP50-95 | 0.7500 | 0.7000 |" in text
    assert "| mAP50 | 0.9000 | - |" in text
    assert "better by \\<b\\>0.05\\</b\\>" in text
    assert "Parity: passed, agreement 0.998." in text
    assert "Answer until 2026-01-02 03:04 UTC." in text
    assert text.endswith("\n\nVersion 3: [Run](http://a)")


@pytest.mark.parametrize("metrics", ["{", "[]", '{"a": {}}', "null"])
def test_a_version_without_readable_scores_is_described_all_the_same(metrics: str) -> None:
    facts = describe("shapes version 1", {"metrics": metrics}, None, DEADLINE)
    assert facts[0] == "**shapes version 1** has passed the gates of its deployment. No version is served now."
    assert not any("|" in fact for fact in facts)
