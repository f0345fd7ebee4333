"""Prefect in a browser: a form that explains itself, and reports that are not cut off, whatever names a dataset has."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from infra.stack_settings import StackSettings
from tasks.dataset.findings import Finding, Report, Severity, SplitStatistics, Statistics
from tasks.finding_codes import Code
from tasks.inference.results.report import inference_markdown
from tasks.inference.results.summary import Failure
from tasks.merge.report import plan_markdown
from tasks.parameters import MergePolicy, TrainingParams
from tasks.promotion.report import promotion_markdown
from tasks.serving.parity.report import parity_markdown
from tasks.validation.report.markdown import report_markdown
from tests.clients import prefect_api
from tests.infra.browser import OpenBrowser, Page
from tests.tasks.inference.results.test_summary import SUMMARY
from tests.tasks.merge.inputs import merged, source
from tests.tasks.promotion.test_rules import decided, model
from tests.tasks.serving.parity.builders import NAMES, found, grid, sample
from tests.tasks.serving.parity.test_report import judge

LONG = "train/images/2026-03-14_warehouse-north_camera-07_00000012_000481_jpg.rf.3f9d0b1c2a7e4d5f8a6b9c0d1e2f3a4b"
FIX = f"Expected numbers from 0 to 1, found '1.234567890123' in {LONG}.txt. Divide pixels by the size of the image."
CLASSES = [f"a-class-with-a-name-that-goes-on-and-on-{number:03}-for-ever-and-ever" for number in range(30)]
CUT_OFF = """
[...document.querySelectorAll('.artifact-data-markdown, .artifact-data-markdown *')]
  .filter((node) => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== 'inline')
  .map((node) => `${node.className}: ${node.scrollWidth} in ${node.clientWidth}: ${node.innerText.slice(0, 80)}`)
"""


def reports() -> dict[str, str]:
    """One of each kind, about a dataset with many findings, classes, archives and long names."""
    findings = [
        Finding(code=code, severity=list(Severity)[place % 3], path=f"{LONG}-{place}.txt", line=place, message=FIX)
        for place, code in enumerate(Code)
    ]
    split = SplitStatistics(images=1_234_567, labelled=1_000_000, instances=dict.fromkeys(CLASSES, 1_234_567))
    statistics = Statistics(task="detect", class_names=CLASSES, splits=dict.fromkeys(("train", "val", "test"), split))
    report = Report(archive=f"{LONG}.zip", digest="3f" * 32, findings=findings, statistics=statistics)
    archives = [
        source(f"{LONG}-{number}.zip", " ".join(CLASSES[number:]), {"train": "abcd", "val": "be"[: number % 3]})
        for number in range(6)
    ]
    scored = [f"{name}{'x' * 60}" for name in NAMES]
    parity = judge([found(*grid(60))], [found(*grid(30))], replace(sample(1), class_names=tuple(scored)))
    scores: tuple[dict[str, Any], ...] = (dict.fromkeys(CLASSES, 0.5), dict.fromkeys(CLASSES[1:], 0.4))
    rise = decided(model(12, **scores[0]), model(11, **scores[1]))
    failures = tuple(Failure(source=f"{LONG}-{number}.jpg", reason=FIX) for number in range(5))
    inference = replace(SUMMARY, failures=failures, failure_count=5, classes=dict.fromkeys(CLASSES, 1_234_567))
    return {
        "dataset-report": report_markdown(report, f"https://{LONG}", "https://json", FIX),
        "merge-plan": plan_markdown(merged(*archives)),
        "parity": parity_markdown(parity, "shapes version 12"),
        "promotion": promotion_markdown(rise),
        "inference-report": inference_markdown(inference, "shapes", "https://gallery", "s3://predictions/x/"),
    }


@pytest.fixture(scope="module")
def ui(stack: StackSettings) -> str:
    return f"http://127.0.0.1:{stack.prefect_port}"


@pytest.fixture(scope="module")
def page(
    stack: StackSettings, ui: str, open_browser: OpenBrowser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """A tab in which the password was typed."""
    password = base64.b64encode(stack.environment["PREFECT_API_AUTH_STRING"].encode()).decode()
    with open_browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.open(f"{ui}/ico/favicon.ico")
        tab.js(f"localStorage.setItem('prefect-password', {json.dumps(password)})")
        yield tab


def test_no_report_is_cut_off_at_its_side(stack: StackSettings, ui: str, page: Page) -> None:
    with prefect_api(stack) as api:
        data = "\n\n".join(reports().values())
        made = api.post("/artifacts/", json={"key": "wide", "type": "markdown", "data": data}).raise_for_status().json()
    page.resize(1400, 1000)
    page.open(f"{ui}/artifacts/artifact/{made['id']}")
    page.wait("document.querySelectorAll('.artifact-data-markdown table').length > 8")
    for width in (1400, 1000):
        page.resize(width, 1000)
        page.wait(f"innerWidth === {width} && document.querySelector('.artifact-data-markdown').clientWidth > 0")
        assert page.js(CUT_OFF) == []
        assert page.js("document.documentElement.scrollWidth <= innerWidth")


PRESS = "(text) => [...document.querySelectorAll('button')].find((each) => each.innerText.trim() === text).click()"
TYPE = """
(label, text) => {
  const isLabelled = (node, depth) =>
    depth && (node.innerText?.startsWith(label) || isLabelled(node.parentElement, depth - 1));
  const field = [...document.querySelectorAll('textarea')].find((each) => isLabelled(each.parentElement, 8));
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(field, text);
  for (const event of ['input', 'change']) field.dispatchEvent(new Event(event, {bubbles: true}));
}
"""


def test_the_form_has_the_order_of_the_models_and_says_what_is_wrong(stack: StackSettings, ui: str, page: Page) -> None:
    with prefect_api(stack) as api:
        deployment = api.get("/deployments/name/train-model/gpu").raise_for_status().json()["id"]
    page.resize(1400, 1000)
    page.open(f"{ui}/deployments/deployment/{deployment}/run")
    page.wait("document.body.innerText.includes('max_class_drop')")
    lines = page.js("document.body.innerText").splitlines()
    for model_ in (TrainingParams, MergePolicy):
        fields = [f"{name} (Optional)" for name in model_.model_fields]
        first = lines.index(fields[0])  # another group has a field of the same name
        places = [lines.index(field, first) for field in fields]
        assert places == sorted(places)
        for place, field in zip(places, model_.model_json_schema()["properties"].values(), strict=True):
            assert lines[place + 1 : place + 3].count(field["description"]) == 1
    none = "document.body.innerText.split('Property is type').length"
    before = page.js(none)
    page.js(f"({PRESS})('str')")  # the device is none as long as nobody says otherwise
    page.wait(f"{none} === {before - 1}")
    page.js(f"({TYPE})('device', 'cuda')")
    told = "several with commas (0,1); found 'cuda'. None takes the first GPU"
    page.wait(
        f"({PRESS})('Submit'), document.body.innerText.includes({json.dumps(told)})"
    )  # it takes texts after a while
