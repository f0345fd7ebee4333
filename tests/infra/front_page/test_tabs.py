"""Every tab can be used with the keyboard alone, and read by day and by night (WCAG AA)."""

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from threading import Thread
from types import SimpleNamespace
from uuid import uuid4

import pytest
import uvicorn
from prefect.client.schemas.objects import StateType
from prometheus_client.core import GaugeMetricFamily

from infra.front_page import datasets, models, predictions
from infra.front_page.application import Services, application
from infra.front_page.run_lines import RunLine
from infra.logs.lines import LEVELS
from infra.metrics.exposition import Exposition
from infra.stack_settings import USER
from tasks.catalogue import run_pages
from tasks.catalogue.entries import (
    VERDICTS,
    ArchiveEntry,
    ArchiveVerdict,
    ModelEntry,
    Page,
    PageEntry,
    PredictionEntry,
    VersionEntry,
)
from tasks.dataset.findings import LabelSource
from tasks.importing.import_records import ImportRecord
from tasks.orchestration import questions, run_figures, run_list
from tasks.orchestration.child_runs import RunState
from tasks.orchestration.questions import OpenQuestion
from tasks.orchestration.run_list import ListedRun, Progress
from tasks.promotion.rules import REFUSED
from tests.infra import browser
from tests.infra.browser import OpenBrowser
from tests.infra.front_page.in_process import NOBODY, PASSWORD, ask
from tests.infra.logs.log_folder import ours, write
from tests.waiting import eventually

NAME, NOW = "shapes", datetime.now(UTC)
TABS = [
    "datasets",
    "registered-models",
    f"registered-models/model?name={NAME}",
    "runs",
    "predictions",
    "logs",
    "live",
    "health",
]
EVALUATION = PageEntry(
    title="Evaluation", version=f"{NAME}/1", archives=("<a>.zip",), split="val", path=f"/files/runs/{uuid4()}/x.html"
)
ARCHIVE = ArchiveEntry(
    name=f"{NAME}.zip",
    size=1,
    etag="",
    modified=NOW,
    verdict="valid",
    task="detect",
    classes=("a", "b", "c", "d", "e"),
    images=3,
    digest="d" * 64,
    checked=NOW,
    report=None,
    versions=(f"{NAME}/1",),
    pages=(EVALUATION,),
    label_sources=(LabelSource(model_name="cells", model_version=3, flow_run_id="f" * 32, images=2),),
)
VERSION = VersionEntry(
    model=NAME,
    number=1,
    aliases=("champion",),
    created=NOW,
    task="detect",
    classes=("a",),
    imported_from=None,
    archives=(ARCHIVE.name,),
    digests=("d" * 64,),
    scores={"mAP50": 0.5},
    promotion="Better.",
    refused=False,
    training_run=str(uuid4()),
    mlflow_run="x",
    parity="passed",
    approved_by="Ann",
    served=True,
    pages=(
        EVALUATION,
        replace(EVALUATION, title="Labels that look wrong", split="all"),
        replace(EVALUATION, title="Monitoring", archives=(), split=""),
    ),
)
SERVED = (True, False, None)
FIGURES = [
    GaugeMetricFamily("studio_source_up", "", labels=["source"]),
    GaugeMetricFamily("studio_champion_version", "", labels=["model"]),
]
for each, labels in zip(FIGURES, ({"triton": 1, "mlflow": 1, "prefect": 0}, {NAME: 2}), strict=True):
    for value in labels.items():
        each.add_metric(value[:1], value[1])
MODEL = ModelEntry(
    name=NAME,
    champion=1,
    challenger=None,
    champions=(2, 1),
    served=True,
    versions=tuple(replace(VERSION, number=number + 1, served=served) for number, served in enumerate(SERVED)),
)
PREDICTION = PredictionEntry(
    run=str(uuid4()),
    model=NAME,
    version=1,
    created=NOW,
    inputs=3,
    images=3,
    detections=4,
    failures=1,
    gallery=None,
    deleted=True,
)
RUNS = [
    ListedRun(
        state=RunState(
            id=uuid4(), name="x", type=kind, state=kind.value.title(), message="Expected this.", since=NOW, began=NOW
        ),
        flow="train-model",
        parameters={"model_name": NAME},
        ended=NOW,
        parent=None,
    )
    for kind in StateType
]
QUESTION = OpenQuestion(run=uuid4(), description=f"**{NAME}** has passed. [Parity](x)", since=NOW)

# What a key can reach, and whether it is seen there: by its outline, or by that of the label that stands for it.
CONTROLS = """
const kinds = "a[href], button, input, select, textarea, summary, [tabindex]";
window.controls = [...document.querySelectorAll(kinds)].filter(each =>
  each.tabIndex >= 0 && !each.disabled && each.checkVisibility({visibilityProperty: true}));
window.reached = new Map();
document.addEventListener("focusin", ({target}) => reached.set(target,
  [target, ...(target.labels ?? [])].some(each => parseFloat(getComputedStyle(each).outlineWidth) >= 2
    && getComputedStyle(each).outlineStyle !== "none")));
controls.length
"""
LEFT_OUT = "controls.filter(each => !reached.get(each)).map(each => each.outerHTML)"

# The texts whose contrast to what lies below them is too weak, by WCAG: 3 for large ones, else 4.5.
WEAK = """(() => {
const numbers = colour => colour.match(/[\\d.]+/g).map(
  (each, at) => Number(each) * (colour.startsWith("color(srgb") && at < 3 ? 255 : 1));
const over = ([r, g, b, a = 1], below) => [r, g, b].map((each, at) => each * a + below[at] * (1 - a));
const light = colour => colour.map(each => each / 255).map(
  each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4).reduce(
  (sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
const ground = each => {
  const own = numbers(getComputedStyle(each).backgroundColor);
  return own[3] === undefined ? own : over(own, each.parentElement ? ground(each.parentElement) : [255, 255, 255]);
};
const texts = [...document.querySelectorAll("body *")].filter(each => each.checkVisibility({opacityProperty: true})
  && !each.closest("[disabled], .unseen, .skip, script, option")
  && [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
return [texts.length, texts.filter(each => {
  const style = getComputedStyle(each), below = ground(each);
  const [low, high] = [light(over(numbers(style.color), below)), light(below)].sort((one, other) => one - other);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  return (high + 0.05) / (low + 0.05) < (large ? 3 : 4.5);
}).map(each => each.outerHTML)];
})()"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The front page in this process, with something to show in each tab; Triton and the store are away."""
    app = application(Services(triton_url=NOBODY, triton_key="", password=PASSWORD, store_url=f"http://{NOBODY}"))
    going, ended = ([run for run in RUNS if run.state.has_stopped == over] for over in (False, True))
    shown = {
        (datasets, "list_archives"): Page(
            entries=tuple(replace(ARCHIVE, verdict=each) for each in VERDICTS), next_cursor=None
        ),
        (datasets, "read_import"): None,
        (models, "list_models"): Page(entries=tuple(replace(MODEL, served=each) for each in SERVED), next_cursor=None),
        (models, "read_model"): MODEL,
        (predictions, "list_predictions"): Page(entries=(PREDICTION,), next_cursor=None),
        (predictions, "list_models"): [],
        (Exposition, "collect"): FIGURES,
        (run_figures, "list_ended"): [],
        (run_list, "list_unfinished"): going,
        (run_list, "list_ended"): ended,
        (run_list, "read_relatives"): [],
        (run_list, "read_progress"): {run.id: Progress(share=0.4, words="4 of 10") for run in going},
        (run_list, "read_newest_lines"): {},
        (questions, "list_open_questions"): [QUESTION],
    }
    with socket.socket() as listener, pytest.MonkeyPatch.context() as patch:
        for (module, name), value in shown.items():
            patch.setattr(module, name, lambda *_, _value=value, **__: _value)
        state = tmp_path_factory.mktemp("state")
        (state / "logs").mkdir()
        said = [ours(number, f"{NAME}\nmore", level=level, model=NAME) for number, level in enumerate(LEVELS)]
        write(state / "logs" / "worker.log", *said)
        patch.setenv("STUDIO_STATE_DIR", str(state))
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        eventually(lambda: server.started, "a started server")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


OF_CHAMPION = ("Infer with it", "Choose images to label", "Label with it", "Learn from new images", "Monitor")


@pytest.mark.parametrize(
    ("model", "offered"),
    [
        (MODEL, [*OF_CHAMPION, "Roll back", "Undeploy"]),
        (replace(MODEL, champions=(1,)), [*OF_CHAMPION, "Undeploy"]),
        (replace(MODEL, champion=None, served=False), []),
    ],
)
def test_a_model_offers_what_can_be_done_with_it(
    model: ModelEntry, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "read_model", lambda _: model)
    text = ask(f"/registered-models/versions?name={NAME}").text.partition("<article")[0]
    assert re.findall(r"<button[^>]*>([^<]*)<", text) == offered


@pytest.mark.parametrize(
    ("aliases", "served", "offered"),
    [
        (("champion",), False, ["Deploy", "Evaluate"]),
        (("challenger",), False, ["Deploy", "Evaluate"]),
        ((), True, ["Deploy", "Evaluate"]),
        (("mine",), False, ["Deploy", "Evaluate", "Delete"]),
    ],
)
def test_a_version_that_is_needed_is_not_offered_for_deletion(
    aliases: tuple[str, ...], served: bool, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(MODEL, versions=(replace(VERSION, aliases=aliases, served=served),))
    monkeypatch.setattr(models, "read_model", lambda _: model)
    text = ask(f"/registered-models/versions?name={NAME}").text.partition("<article")[2]
    assert re.findall(r"<button[^>]*>([^<]*)<", text) == offered


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("source", ["old.pt", None])
def test_a_version_says_that_it_was_imported_and_why_it_was_refused(
    refused: bool, source: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = replace(VERSION, refused=refused, imported_from=source)
    monkeypatch.setattr(models, "read_model", lambda _: replace(MODEL, versions=(version,)))
    text = ask(f"/registered-models/versions?name={NAME}").text
    assert (">imported</span>" in text, ">refused</span>" in text) == (source is not None, refused)
    assert ("<p>Better.</p>" in text, "passes it over. Better.</p>" in text) == (not refused, refused)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_an_archive_that_is_invalid_cannot_be_trained_on(
    verdict: ArchiveVerdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = replace(ARCHIVE, verdict=verdict)
    monkeypatch.setattr(datasets, "read_archive", lambda _: archive)
    monkeypatch.setattr(datasets, "list_archives", lambda **_: Page(entries=(archive,), next_cursor=None))
    monkeypatch.setattr(datasets, "read_import", lambda _: None)
    facts, listed = ask(f"/datasets/facts?name={ARCHIVE.name}").text, ask("/datasets/list").text
    is_invalid = verdict == "invalid"
    offered = "Train on it" in facts, "Evaluate on it" in facts
    assert (*offered, "No training takes it" in facts, " disabled " in listed) == (
        not is_invalid,
        not is_invalid,
        is_invalid,
        is_invalid,
    )
    assert ("Import it" in facts) == is_invalid


def test_an_archive_and_a_version_lead_to_the_pages_about_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "read_archive", lambda _: ARCHIVE)
    monkeypatch.setattr(datasets, "read_import", lambda _: None)
    monkeypatch.setattr(models, "read_model", lambda _: MODEL)
    link = f'<a href="{EVALUATION.path}" target="_blank" rel="noopener">'
    facts = ask(f"/datasets/facts?name={ARCHIVE.name}").text
    assert f'{link}Evaluation</a> <span class="soft">{NAME}/1, split val</span>' in facts
    versions = ask(f"/registered-models/versions?name={NAME}").text
    assert f'{link}Evaluation</a> <span class="soft"><bdi>&lt;a&gt;.zip</bdi>, split val</span>' in versions
    assert (
        f'{link}Labels that look wrong</a> <span class="soft"><bdi>&lt;a&gt;.zip</bdi>, all splits</span>' in versions
    )
    assert f"{link}Monitoring</a></dd>" in versions


@pytest.mark.parametrize("changes", [{}, {"left out: a <polyline>": 3, "not kept: flag occluded": 9}])
def test_an_imported_archive_says_what_it_was_made_from_and_what_was_lost(
    changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ImportRecord(
        digest="d" * 64, source="sources/a.zip", source_digest="e" * 64, format="cvat", changes=changes, flow_run_id="f"
    )
    monkeypatch.setattr(datasets, "read_archive", lambda _: ARCHIVE)
    monkeypatch.setattr(datasets, "read_import", {ARCHIVE.digest: record}.get)
    facts = ask(f"/datasets/facts?name={ARCHIVE.name}").text
    assert f"from <code>sources/a.zip</code> (cvat), SHA-256 <code>{'e' * 64}</code>" in facts
    told = ["9 times not kept: flag occluded", "3 times left out: a &lt;polyline&gt;"]
    assert "cells version 3 in 2 of 3 images" in facts
    assert re.search(r'</code>, <a href="[^"]*/runs/flow-run/f" target="_blank" rel="noopener">see the run</a>', facts)
    assert ("nothing lost" in facts, re.findall("<li>(.*?)</li>", facts)) == (not changes, told if changes else [])


@pytest.mark.usefixtures("address")
def test_what_a_log_and_a_progress_say_alike_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress(share=0.4, words="epoch 4/10")
    run = next(run for run in RUNS if run.state.type is StateType.RUNNING)
    monkeypatch.setattr(run_list, "read_progress", lambda _: {run.id: progress})
    monkeypatch.setattr(run_list, "read_newest_lines", lambda _: {run.id: SimpleNamespace(text=progress.words)})
    assert ask("/runs/newest").text.count("epoch 4/10") == 1


@pytest.mark.parametrize(
    ("flow", "type_", "state", "message", "leads"),
    [
        ("evaluate-model", StateType.COMPLETED, "Completed", "", True),
        ("evaluate-model", StateType.FAILED, "Failed", "", False),
        ("train-model", StateType.RUNNING, "Running", "", False),
        ("validate-dataset", StateType.FAILED, "Invalid", "", True),
        ("import-dataset", StateType.COMPLETED, "Completed", "", True),
        ("import-dataset", StateType.FAILED, "Failed", "every finding is at http://x/RUN/report.html?y", True),
        ("import-dataset", StateType.FAILED, "Failed", "Expected a new name, found 'a.zip'.", False),
        ("train-model", StateType.FAILED, "Failed", "at http://x/RUN/datasets/d.html", False),
        ("register-model", StateType.COMPLETED, "Completed", f"m version 2: {REFUSED}.", True),
        ("register-model", StateType.COMPLETED, "Completed", "m version 2: imported", False),
        ("deploy-model", StateType.COMPLETED, "Completed", "", False),
    ],
)
def test_a_run_that_has_left_a_page_has_a_link(
    flow: str, type_: StateType, state: str, message: str, leads: bool
) -> None:
    """Also one that has failed because what it made is invalid: it has written the report before."""
    message = message.replace("RUN", str(RUNS[0].id))
    run = replace(RUNS[0], flow=flow, state=replace(RUNS[0].state, type=type_, state=state, message=message))
    assert RunLine(run=run, progress=None, newest="").has_pages == leads


@pytest.mark.usefixtures("address")
def test_a_run_leads_to_the_pages_that_it_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked before it is followed."""
    (run,) = (run for run in RUNS if run.state.type is StateType.COMPLETED)
    address = f"/runs/{run.id}/pages"
    stored = {f"{run.id}/report.html"}
    monkeypatch.setattr(run_pages._RUNS, "exists", lambda key: pytest.fail(f"asked for {key}"))
    assert f'href="{address}"' in ask("/runs/newest").text
    monkeypatch.setattr(run_pages._RUNS, "exists", stored.__contains__)
    monkeypatch.setattr(run_pages._PREDICTIONS, "exists", frozenset().__contains__)
    answer = ask(address)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/files/runs/{run.id}/report.html")
    stored.add(f"{run.id}/refusal.html")
    assert f'<a href="/files/runs/{run.id}/refusal.html">Why it was refused</a>' in ask(address).text
    stored.clear()
    answer = ask(address)
    assert (answer.status_code, "Expected a page of flow run" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("link", "shown", "asked"),
    [
        ("/datasets?search=x%26y&verdict=invalid", 'name="search" value="x&amp;y"', 'hx-include="#filters"'),
        ("/datasets?search=x%26y&verdict=invalid", '<option value="invalid" selected>', 'hx-include="#filters"'),
        ("/registered-models?search=x%26y", 'name="search" value="x&amp;y"', "list?search=x%26y"),
        (
            "/runs?flow=clean-up&state=failed",
            '<option value="clean-up" selected>',
            "newest?flow=clean-up&amp;state=failed",
        ),
        (
            "/runs?flow=clean-up&state=failed",
            '<option value="failed" selected>',
            "newest?flow=clean-up&amp;state=failed",
        ),
        ("/predictions?model=x%26y", '<option value="x&amp;y">x&amp;y</option>', "list?model=x%26y"),
    ],
)
def test_a_link_to_a_filtered_list_shows_it_filtered(link: str, shown: str, asked: str) -> None:
    """The filter is in the address, which a colleague can be sent; the forms send it there."""
    text = ask(link).text
    assert shown in text
    assert asked in text


@pytest.fixture(scope="module")
def page(address: str, open_browser: OpenBrowser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.resize(1280, 900)
        tab.sign_in(f"{address}/datasets", USER, PASSWORD)
        yield tab


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_is_used_with_the_keyboard_and_read_by_day_and_night(
    page: browser.Page, address: str, tab: str
) -> None:
    page.open(f"{address}/{tab}")
    page.wait(
        "document.querySelector('.htmx-request, .htmx-settling, .htmx-added') === null "
        f"&& document.querySelector('main')?.innerText.includes('{'Triton' if tab == 'live' else NAME}')"
    )
    page.js("Object.defineProperty(document, 'hidden', {value: true})")  # it asks for nothing more
    for _ in range(page.js(CONTROLS)):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert page.js(LEFT_OUT) == []
    grounds = set()
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        count, weak = page.js(WEAK)
        assert (count > 5, weak) == (True, [])
        grounds.add(page.js("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_the_page_of_an_archive_follows_its_check(
    page: browser.Page, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that is read stays where it is."""
    shown = [replace(ARCHIVE, verdict="unchecked")]
    monkeypatch.setattr(datasets, "read_archive", lambda _: shown[-1])
    page.open(f"{address}/datasets/archive?name={ARCHIVE.name}")
    page.wait("document.querySelector('.badge')?.innerText === 'not checked'")
    for images in (7, 8):
        shown.append(replace(ARCHIVE, report=PREDICTION.run, images=images))
        page.js("document.body.dispatchEvent(new Event('studio:slow-tick'))")
        page.wait(f"document.querySelector('.facts').innerText.includes('{images}')")
        page.wait("(window.report ??= document.querySelector('iframe')) === document.querySelector('iframe')")
