"""In place of matplotlib, with which Ultralytics draws curves, which the proof leaves out."""

from types import SimpleNamespace

rcParams: dict[str, object] = {}  # noqa: N816 - matplotlib's own name
font_manager = SimpleNamespace(fontManager=SimpleNamespace(ttflist=[]))
