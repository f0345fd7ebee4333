"""The colours of the front page can be told apart by people with weak eyes: WCAG AA, by day and by night."""

import re

import pytest

from infra.front_page.pages import FOLDER

STYLE = (FOLDER / "static" / "studio.css").read_text()
DAY, NIGHT = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
TEXT, EDGE = 4.5, 3.0  # the least contrast of text, and of the borders of what is pressed or filled in
GROUNDS = ("ground", "panel")


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [DAY, NIGHT], ids=["day", "night"])
def test_text_and_edges_stand_out(palette: dict[str, str]) -> None:
    inks = {(ink, ground): TEXT for ink in ("ink", "soft", "accent", "good", "warn", "bad") for ground in GROUNDS}
    pairs = inks | {("on-accent", "accent"): TEXT} | {("edge", ground): EDGE for ground in GROUNDS}
    weak = {pair: round(contrast(*(palette[name] for name in pair)), 2) for pair in pairs}
    assert {pair: found for pair, found in weak.items() if found < pairs[pair]} == {}
