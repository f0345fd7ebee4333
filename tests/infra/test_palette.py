"""A class has one colour on all pages."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from infra.front_page.pages import FOLDER
from tasks.rendering.palette import class_colour
from tests.infra.browser import OpenBrowser


@pytest.mark.parametrize(("classes", "least"), [(10, 30), (20, 24)])
def test_classes_have_colours_that_people_tell_apart(classes: int, least: float) -> None:
    """By their distance in CIELAB, in which 2.3 is just seen."""
    colours = np.array([[class_colour(number) for number in range(classes)]], np.float32) / 255
    places = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert apart[~np.eye(classes, dtype=bool)].min() > least


def test_the_live_page_has_the_colours_of_the_gallery(open_browser: OpenBrowser, tmp_path: Path) -> None:
    (line,) = re.findall(r"^const classColour = .*$", (FOLDER / "static" / "live.js").read_text(), re.MULTILINE)
    shown = (
        "[...Array(40).keys()].map((id) => { const node = document.body; node.style.color = classColour(id); "
        "return getComputedStyle(node).color.match(/\\d+/g).map(Number) })"
    )
    with open_browser(tmp_path / "profile") as page:
        page.js(line.replace("const ", "window.", 1))
        found = page.js(shown)
    assert np.abs(np.array(found) - [class_colour(number) for number in range(40)]).max() <= 1
