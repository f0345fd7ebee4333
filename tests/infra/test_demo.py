"""What the demo draws, and what it prints when it is done."""

import io

import pytest
from rich.console import Console

from infra import demo_data
from infra.demo import Demo
from infra.stack_settings import StackSettings
from tasks.parameters import MonitoringParams

RUN = "s3://predictions/01234567-89ab-cdef-0123-456789abcdef/"


@pytest.mark.parametrize("width", [40, 80])
def test_addresses_are_whole_in_a_narrow_terminal(width: int) -> None:
    out = io.StringIO()
    demo = Demo(StackSettings.load(), Console(file=out, width=width))
    demo._rows += [("results", RUN), ("gallery", "http://127.0.0.1/" + 200 * "x")]
    demo._table()
    lines = out.getvalue().splitlines()
    assert f"results: {RUN}" in lines
    assert f"gallery: http://127.0.0.1/{200 * 'x'}" in lines


def test_the_model_of_the_demo_can_be_monitored() -> None:
    assert sum(plan.val for plan in demo_data.ARCHIVES) >= MonitoringParams().min_images
