"""Draw where the process of a run spends its processor time, as an icicle: callers above, what they call below.

`py-spy record --pid WORKER --subprocesses --threads --format raw --output run.raw` while runs go on, then
`python -m tests.benchmarks.icicle run.raw picture.svg`. Frames of this project have their names; of a library only its
name is kept, once for all its frames in a row. py-spy is not among the dependencies.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH, ROW = 1400, 22
CHARACTER = 6.6  # pixels of one
LEAST = 0.006  # of the whole: narrower bars would say nothing
OWN = re.compile(r"^(?P<name>.*) \((?P<file>(?:tasks|flows|infra)/[^:]*):\d+\)$")
LIBRARY = re.compile(r"\((?:<frozen )?(?P<name>[\w.]+)")
FIRST = "run_forked (infra/engine"
AS_ONE = {"pydantic_settings": "pydantic", "importlib": "imports", "pydantic_core": "pydantic", "httpcore": "httpx"}
UNSAID = {"contextlib", "functools", "_bootstrap"}  # they only pass a call on
COLOURS = {"flows": "#c7522a", "tasks": "#e5a03c", "infra": "#a3b18a", "": "#9db4c0"}


@dataclass
class Bar:
    """One function with all that it calls; `samples` of both."""

    name: str
    room: str = ""
    samples: int = 0
    calls: dict[str, "Bar"] = field(default_factory=dict)


def read(text: str) -> Bar:
    """Return the whole of a profile: the main threads of the processes of runs."""
    whole = Bar("the process of a run")
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        if f";{FIRST}" not in stack:
            continue
        whole.samples += int(samples)
        bar = whole
        frames = stack.split(";")
        first = next(place for place, frame in enumerate(frames) if frame.startswith(FIRST))
        for name, room in _names(frames[first:]):
            bar = bar.calls.setdefault(name, Bar(name, room))
            bar.samples += int(samples)
    return whole


def _names(frames: list[str]) -> Iterator[tuple[str, str]]:
    """The name and the room of each frame, without those of one library after each other."""
    former = ""
    for frame in frames:
        if own := OWN.match(frame):
            room = own["file"].partition("/")[0]
            name = f"{own['name']} ({own['file'].removeprefix(f'{room}/')})" if room != "flows" else own["name"]
        else:
            found = LIBRARY.search(frame)
            name, room = found["name"].partition(".")[0] if found else "", ""
            name = AS_ONE.get(name, name)
        if name and name != former and name not in UNSAID:
            yield name, room
            former = name


def draw(whole: Bar) -> str:
    """Return an SVG."""
    bars = list(_place(whole, whole.samples, 0.0, 0))
    height = ROW * (1 + max(depth for *_, depth in bars))
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
            'font-size="11" role="img"><title>Where the process of a run spends its processor time</title>'
        )
    ]
    for bar, left, depth in bars:
        width = WIDTH * bar.samples / whole.samples
        share = f"{100 * bar.samples / whole.samples:.0f} %"
        text = f"{bar.name} {share}"
        fitting = text if len(text) * CHARACTER < width - 6 else bar.name[: max(0, int((width - 6) / CHARACTER))]
        x, y = WIDTH * left / whole.samples, ROW * depth
        lines.append(
            f'<g><title>{escape(bar.name)}: {share}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 1, 0.5):.1f}" '
            f'height="{ROW - 2}" rx="2" fill="{COLOURS[bar.room]}"/>'
            f'<text x="{x + 3:.1f}" y="{y + 15}" fill="#1b1b1b">{escape(fitting)}</text></g>'
        )
    return "\n".join([*lines, "</svg>\n"])


def _place(bar: Bar, whole: int, left: float, depth: int) -> Iterator[tuple[Bar, float, int]]:
    yield bar, left, depth
    for call in sorted(bar.calls.values(), key=lambda each: -each.samples):
        if call.samples >= LEAST * whole:
            yield from _place(call, whole, left, depth + 1)
        left += call.samples


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(read(Path(sys.argv[1]).read_text())))
