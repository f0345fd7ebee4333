"""Files of the checkout whose text the code is the source of."""

from collections.abc import Mapping
from pathlib import Path


def write_stale(texts: Mapping[Path, str], *, check: bool) -> list[Path]:
    """Return the files that are missing or have another text than this; without `check` they are written."""
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in [] if check else stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[path])
    return stale
