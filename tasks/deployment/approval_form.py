"""The form by which a person approves a version or refuses it, and what it says about the version."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import StudioError
from tasks.parameters import UNPRINTABLE
from tasks.rendering.links import links_markdown
from tasks.rendering.markdown import escape_markdown, table

NOBODY = "nobody"  # who answers when the time is over
MAX_NAME = 100
MAX_COMMENT = 2000


class ApprovalForm(BaseModel):
    """Does this version become the champion?"""

    model_config = ConfigDict(extra="forbid", title="Approval")

    decision: Literal["approve", "refuse"] = Field(description="approve: clients get the version. refuse: they do not.")
    name: str = Field(
        min_length=1,
        max_length=MAX_NAME,
        pattern=r"\S",
        description="Your name. Who has signed in answers by that of their account, whatever stands here.",
    )
    comment: str = Field("", max_length=MAX_COMMENT, description="Why. It is kept with the version.")

    @property
    def signed(self) -> str:
        """The name on one line."""
        return _one_line(self.name)

    @property
    def remark(self) -> str:
        """The comment on one line; empty if there is none."""
        return _one_line(self.comment)


def parse_form(fields: Mapping[str, object]) -> ApprovalForm:
    """Return the form with these fields.

    Raises:
        StudioError: They do not fit it.
    """
    try:
        return ApprovalForm.model_validate(dict(fields))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise StudioError(
            f"Expected decision (approve or refuse), name (1 to {MAX_NAME} characters) and comment (at most "
            f"{MAX_COMMENT}), found {faults}. Correct that and answer again."
        ) from error


def unanswered(deadline: datetime) -> ApprovalForm:
    """Return the answer of nobody, when the time is over."""
    return ApprovalForm(decision="refuse", name=NOBODY, comment=f"There was no answer until {iso(deadline)}.")


def iso(moment: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def describe(
    title: str, tags: Mapping[str, str], champion: tuple[str, Mapping[str, str]] | None, deadline: datetime
) -> list[str]:
    """Return paragraphs of Markdown about a version, by its tags and by title and tags of the served champion."""
    asked = f"**{title}** has passed the gates of its deployment."
    replaced = f" It would replace {champion[0]}." if champion else " No version is served now."
    facts = [asked + replaced]
    sides = [(title, tags), *([champion] if champion else [])]
    facts.append(_score_table(sides))
    if reason := tags.get("promotion_reason"):
        facts.append(f"Comparison after the training: {escape_markdown(reason)}")
    if agreement := tags.get("parity_agreement"):
        facts.append(f"Parity: {escape_markdown(tags.get('parity', ''))}, agreement {escape_markdown(agreement)}.")
    facts.append(f"Answer until {deadline:%Y-%m-%d %H:%M} UTC. After that, the version is refused.")
    return [fact for fact in facts if fact]


def with_links(facts: Sequence[str], links: Mapping[str, Mapping[str, str]]) -> str:
    """Return the paragraphs, and below them a line for each title: links, as addresses by their texts."""
    return "\n\n".join([*facts, *(f"{title}: {links_markdown(each)}" for title, each in links.items() if each)])


def _score_table(sides: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    scores = [_scores(tags) for _, tags in sides]
    names = sorted(set().union(*scores))
    rows = [[name, *(f"{each[name]:.4f}" if name in each else "-" for each in scores)] for name in names]
    return table(["validation images", *(title for title, _ in sides)], rows) if rows else ""


def _scores(tags: Mapping[str, str]) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in json.loads(tags.get("metrics", "{}")).items()}
    except (ValueError, TypeError, AttributeError):  # a tag of somebody else
        return {}


def _one_line(text: str) -> str:
    return " ".join(re.sub(UNPRINTABLE, " ", text).split())
