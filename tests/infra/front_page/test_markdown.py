"""Markdown of others on our pages: what it may show, and where it may lead."""

import re

import pytest

from infra.front_page.markdown import render_markdown
from tasks.rendering.markdown import escape_markdown, table

OURS = ("http://127.0.0.1:4200", "http://127.0.0.1:8003/live")


def test_a_report_of_ours_becomes_headings_tables_and_links() -> None:
    scores = table(["scores", "shapes version 3"], [["mAP50", "0.5"]])
    shown = render_markdown(f"**shapes**\n\n{scores}\n\n[Run](http://127.0.0.1:4200/runs/1?a=b)", OURS)
    assert "<strong>shapes</strong>" in shown
    assert "<td>mAP50</td>" in shown
    assert '<a href="http://127.0.0.1:4200/runs/1?a=b">Run</a>' in shown


@pytest.mark.parametrize("address", OURS)
def test_an_address_of_ours_itself_is_a_link(address: str) -> None:
    assert f'href="{address}"' in render_markdown(f"[here]({address})", OURS)


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "<script>alert(1)</script>",
        "![picture](http://127.0.0.1:4200/a.png)",
        "[x](javascript:alert(1))",
        "[x](http://evil.example/)",
        "[x](//evil.example/)",
        "[x](http://127.0.0.1:42000/)",
        "[x](http://127.0.0.1:4200@evil.example/)",
        "[x](/start/delete-dataset)",
        "[x][1]\n\n[1]: http://evil.example/",
        "<http://evil.example/>",
    ],
)
def test_nothing_of_others_runs_is_loaded_or_leads_elsewhere(text: str) -> None:
    """A picture becomes a link at most, which nobody follows unasked."""
    shown = render_markdown(text, OURS)
    assert set(re.findall(r"<(\w+)", shown)) <= {"p", "a"}
    assert set(re.findall(r'(\w+)="([^"]*)"', shown)) <= {("href", "http://127.0.0.1:4200/a.png")}


def test_an_escaped_name_is_shown_as_it_is() -> None:
    name = "a_b*c|d<e>[f](http://127.0.0.1:4200/)`g`"
    shown = render_markdown(escape_markdown(name), OURS)
    assert shown.strip() == "<p>a_b*c|d&lt;e&gt;[f](http://127.0.0.1:4200/)`g`</p>"
