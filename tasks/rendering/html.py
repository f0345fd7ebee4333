"""Pages of HTML: one file each, with style and script inside, which its Content-Security-Policy names by hash."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

DOCUMENT = "document"  # style of pages to read from top to bottom
PICTURES = "pictures"  # of images with what is drawn on them, and the legends of that
JUDGEMENT = "judgement"  # of pages that pass or fail something, with images side by side

_TEMPLATES = Path(__file__).with_name("templates")


def render_page(name: str, *styles: str, **values: object) -> str:
    """Return the page of `templates/NAME.html.j2`, ready to be written as UTF-8.

    The template gets `values`, escaped, and `style` (the shared `styles`, then NAME.css) and `script` (NAME.js), empty
    if there is no such file, with `style_hash` and `script_hash`.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = "{:,}".format
    style = "".join(_read(f"{each}.css") for each in (*styles, name))
    script = _read(f"{name}.js")
    page = environment.get_template(f"{name}.html.j2").render(
        # Our own files: nothing in them is from outside.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
        **values,
    )
    # A name may be no valid Unicode.
    return page.encode("utf-8", "replace").decode("utf-8")


def jpeg_data_uri(jpeg: bytes) -> str:
    """Return the bytes of a JPEG file as a URI that a page can hold."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _read(name: str) -> str:
    path = _TEMPLATES / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
