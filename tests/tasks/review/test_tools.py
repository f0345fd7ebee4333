"""Which tool people review in, and what it costs those who review in another."""

import subprocess
import sys

import pytest

from tasks.review.rounds import ToolName
from tasks.review.tools import choose_tool
from tasks.settings import Settings


@pytest.mark.parametrize(
    ("wanted", "task", "label_studio_url", "cvat_url", "tool"),
    [
        ("auto", "detect", "", "", ToolName.FRONT_PAGE),
        ("auto", "detect", "http://labels", "", ToolName.LABEL_STUDIO),
        ("auto", "pose", "http://labels", "http://cvat", ToolName.LABEL_STUDIO),
        ("auto", "detect", "", "http://cvat", ToolName.CVAT),
        ("auto", "pose", "", "http://cvat", ToolName.FRONT_PAGE),
        ("front-page", "detect", "http://labels", "http://cvat", ToolName.FRONT_PAGE),
        ("label-studio", "detect", "", "http://cvat", ToolName.LABEL_STUDIO),
        ("cvat", "detect", "http://labels", "", ToolName.CVAT),
    ],
)
def test_people_answer_where_they_can_draw_if_there_is_such_a_tool_and_nobody_says_otherwise(
    wanted: str, task: str, label_studio_url: str, cvat_url: str, tool: ToolName
) -> None:
    assert choose_tool(wanted, task, Settings(label_studio_url=label_studio_url, cvat_url=cvat_url)) is tool


def test_only_a_round_in_cvat_imports_its_sdk() -> None:
    """It takes a second."""
    program = """
import sys
import flows.review_images, infra.front_page.reviews, infra.patrol
from tasks.review.tools import ToolName, tool_of
for name in (ToolName.FRONT_PAGE, ToolName.LABEL_STUDIO, ToolName.CVAT):
    tool_of(name)
    print("cvat_sdk" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False", "True"]
