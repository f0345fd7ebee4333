"""Markdown of others as HTML: its tags are text, and its links lead to our services or nowhere."""

from collections.abc import Collection

from markdown_it import MarkdownIt
from markupsafe import Markup


def render_markdown(text: str, own: Collection[str]) -> Markup:
    """Return Markdown as HTML.

    HTML in it is shown as text, images are not shown, and a link stays the text that it was unless its address is one
    of `own`, such as `http://127.0.0.1:4200`, or below it.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    below = tuple(f"{address}/" for address in own)
    parser.validateLink = lambda url: url in own or url.startswith(below)  # type: ignore[method-assign]
    return Markup(parser.render(text))  # noqa: S704 - the parser escapes what it was given
