"""What STUDIO_NOTIFY is told, in which words, and how often: against a receiver on this machine."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.states import Failed, Scheduled
from pydantic import SecretStr

from infra import notifications, registration, supervisord
from infra import stack as local_stack
from infra.command_errors import StackError
from infra.environment import inherited_environment, worker_environment
from infra.pipelines import PipelinesError, read_pipelines
from infra.registration import NOTIFICATIONS
from infra.services import prefect_server
from infra.stack_settings import StackSettings
from tasks.deployment.refusals import VersionRefusedError
from tasks.orchestration import events
from tasks.rendering.links import UiLinks
from tests.clients import prefect_api
from tests.infra.receiver import SECRET, Receiver, open_dripping_receiver, open_receiver
from tests.waiting import eventually

LINKS = UiLinks(prefect="http://studio.example:4200", mlflow="", live="http://studio.example:8003/live")
RUN = "b9d5a9c4-0000-4000-8000-000000000001"
OF_A_CHECK = "validate-dataset failed"
VERSION = {"model": "shapes", "version": 3}
FILE: list[dict[str, Any]] = yaml.safe_load(NOTIFICATIONS.read_text())

# ---- the words ------------------------------------------------------------------------------------------------------


def message(name: str, payload: dict[str, Any], **run: Any) -> list[str]:
    """Subject and lines of the message of an automation, rendered as Prefect's server does."""
    (automation,) = (each for each in FILE if each["name"] == name)
    blocks = dict.fromkeys(registration.NOTIFICATION_BLOCKS, str(uuid4()))
    (action,) = notifications.with_message(automation, blocks, LINKS)["actions"]
    state = SimpleNamespace(name="Failed", message=run.get("reason", "It broke."))
    context = {
        "event": SimpleNamespace(payload=payload),
        "flow": SimpleNamespace(name="train-model"),
        "flow_run": SimpleNamespace(id=RUN, name="wise-owl", parameters=run.get("parameters", {}), state=state),
    }
    return [
        render_user_template_sync(action["subject"], context),
        *render_user_template_sync(action["body"], context).splitlines(),
    ]


LINK = f"Run: {LINKS.flow_run(RUN)}"
REPORT = {"report": "http://s3.example/report.html?X-Amz-Signature=1&x=2"}
WORDS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "promoted": (
        "notify-of-promoted-versions",
        {**VERSION, "reason": "mAP50 0.81, champion 0.60.", **REPORT},
        ["shapes: version 3 is the new challenger", "mAP50 0.81, champion 0.60.", f"Report: {REPORT['report']}", LINK],
    ),
    "refused, without a report": (
        "notify-of-refused-versions",
        {**VERSION, "refused_by": "parity", "reason": "2 of 30 images differ.", "report": "", "falls_page": ""},
        ["shapes: version 3 was refused", "Refused by parity: 2 of 30 images differ.", LINK],
    ),
    "the first one is not good enough": (
        "notify-of-refused-versions",
        {
            **VERSION,
            "refused_by": "comparison",
            "reason": "mAP50 0.01, at least 0.1 is asked.",
            "report": "",
            "falls_page": "http://s3.example/refusal.html",
        },
        [
            "shapes: version 3 was refused",
            "Not promoted: mAP50 0.01, at least 0.1 is asked.",
            "What fell: http://s3.example/refusal.html",
            LINK,
        ],
    ),
    "the first one is deployed": (
        "notify-of-deployed-versions",
        {**VERSION, "replaced": None, "approved_by": "", "comment": "", "report": ""},
        ["shapes: version 3 is served", "It is the champion now.", LINK],
    ),
    "another one is deployed that a person approved": (
        "notify-of-deployed-versions",
        {**VERSION, "replaced": 2, "approved_by": "Ada", "comment": "Good on night images.", **REPORT},
        [
            "shapes: version 3 is served",
            "It is the champion now, in place of version 2.",
            "Approved by Ada: Good on night images.",
            f"Report: {REPORT['report']}",
            LINK,
        ],
    ),
    "drifted": (
        "notify-of-drifted-versions",
        {
            **VERSION,
            "drifted": ["mAP50", "brightness"],
            "reasons": ["mAP50 is estimated at 0.4.", "brightness drifted."],
            "images": 60,
            **REPORT,
        },
        [
            "shapes: version 3 drifted",
            "mAP50 is estimated at 0.4. brightness drifted.",
            f"Report: {REPORT['report']}",
            LINK,
        ],
    ),
    "rolled back": (
        "notify-of-rollbacks",
        {**VERSION, "replaced": 4},
        ["shapes: rolled back to version 3", "It is the champion again, in place of version 4.", LINK],
    ),
    "review wanted": (
        "notify-of-wanted-reviews",
        {**VERSION, "run": RUN, "images": 200, "page": "http://labels.example/projects/7"},
        [
            "shapes: 200 images wait for a person",
            "Correct what version 3 has found, at http://labels.example/projects/7",
            LINK,
        ],
    ),
    "approval wanted": (
        "notify-of-wanted-approvals",
        {**VERSION, "replaces": 2, "run": RUN, "page": "", **REPORT},
        [
            "shapes: version 3 waits for your approval",
            "It has passed its gates, and would replace version 2.",
            "Approve or refuse it at http://studio.example:8003/runs, or open the run in Prefect and choose Resume.",
            f"Report: {REPORT['report']}",
            LINK,
        ],
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_message_names_model_version_and_reason_and_links_run_and_report(case: str) -> None:
    name, payload, lines = WORDS[case]
    assert message(name, payload) == lines


def test_messages_name_fields_that_the_events_have() -> None:
    told = [kind for each in FILE for kind in each["trigger"]["expect"] if kind in events.EVENTS]
    assert {kind for kind in events.EVENTS if kind.startswith("model.")} - {
        events.MODEL_TRAINED,
        events.MODEL_IMPORTED,
    } <= {*told}
    for automation in FILE:
        (kind,), (action,) = automation["trigger"]["expect"], automation["actions"]
        if kind in events.EVENTS:
            named = set(re.findall(r"event\.payload\.(\w+)", action["subject"] + action["body"]))
            assert {"model", "version"} <= named <= events.EVENTS[kind].payload.keys(), kind


@pytest.mark.parametrize(
    ("parameters", "suffix"),
    [({"model_name": "shapes"}, ": shapes"), ({"archive": "a.zip"}, ": a.zip"), ({"max_checks": 2}, "")],
)
def test_a_run_is_named_with_its_reason(parameters: dict[str, Any], suffix: str) -> None:
    lines = [f"train-model failed{suffix}", "Run wise-owl of train-model ended Failed.", "It broke.", LINK]
    assert message("notify-of-failed-runs", {}, parameters=parameters) == lines


def test_no_name_calls_everybody_and_no_text_is_endless() -> None:
    text = "\n".join(message("notify-of-failed-runs", {}, reason="<!channel> {{ 7*7 }} " + "x" * 10_000))
    assert "(!channel> {{ 7*7 }} xxx" in text
    assert len(text) < 2_500


def test_no_service_inherits_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_NOTIFY", f"json://127.0.0.1/{SECRET}")
    settings = StackSettings()
    assert SECRET in settings.notify.get_secret_value()
    assert SECRET not in repr((inherited_environment(settings), worker_environment(settings), settings))


# ---- on the server ---------------------------------------------------------------------------------------------------


def register(stack: StackSettings, addresses: str) -> None:
    settings = stack.model_copy(update={"notify": SecretStr(addresses)})
    asyncio.run(notifications.ensure_notifications(settings))


def promote(key: str) -> str:
    """Say that a version is better; returns the title of the message."""
    payload = {"model": key, "version": 1, "reason": "It is better.", "report": ""}
    assert events.emit(events.MODEL_PROMOTED, events.version(key, 1), payload=payload, key=key)
    return f"{key}: version 1 is the new challenger"


def expect(receiver: Receiver, *titles: str) -> None:
    """Wait for these messages and that of one more event, which comes last: there are no others."""
    last = promote(f"last-{uuid4().hex[:8]}")
    eventually(lambda: last in receiver.titles(), f"a message {last}")
    # Checks of archives that other tests have uploaded may end meanwhile.
    assert sorted(title for title in receiver.titles() if not title.startswith(OF_A_CHECK)) == sorted([*titles, last])
    receiver.messages.clear()


def test_each_event_of_a_version_is_told_once(stack: StackSettings, receiver: Receiver) -> None:
    mark = uuid4().hex[:8]
    about = {"model": mark, "version": 2}
    version = events.version(mark, 2)
    kinds: dict[str, dict[str, Any]] = {
        events.MODEL_REFUSED: {"refused_by": "canary", "reason": "It is slow.", "report": "", "falls_page": ""},
        events.MODEL_DEPLOYED: {"replaced": 1, "approved_by": "", "comment": "", "report": ""},
        events.MODEL_ROLLED_BACK: {"replaced": 3},
        events.MODEL_DRIFTED: {"drifted": ["mAP50"], "reasons": ["It fell."], "images": 60, "report": ""},
    }
    for kind, payload in kinds.items():
        for _ in range(2):
            events.emit(kind, version, payload={**about, **payload}, key=mark)
    register(stack, receiver.address)  # a second `make up`
    titles = [
        f"{mark}: {words}"
        for words in ("version 2 was refused", "version 2 is served", "rolled back to version 2", "version 2 drifted")
    ]
    expect(receiver, *titles)


@pytest.mark.heavy
def test_a_server_that_is_restarted_tells_nothing_again(stack: StackSettings, receiver: Receiver) -> None:
    mark = uuid4().hex[:8]
    title = promote(mark)
    expect(receiver, title)
    with prefect_api(stack) as api:
        named = {"filter": {"event": {"name": [events.MODEL_PROMOTED]}, "resource": {"id": [f"version:{mark}/1"]}}}
        eventually(lambda: api.post("/events/filter", json=named).json()["events"], "the event in Prefect's database")
    with supervisord.connect(stack) as supervisor:
        supervisor.stopProcess("prefect")
        supervisor.startProcess("prefect")
    local_stack.wait_until_healthy([prefect_server(stack)], stack, print)
    promote(mark)
    register(stack, receiver.address)
    expect(receiver)


@pytest.mark.heavy
def test_make_up_follows_the_variable(stack: StackSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is quick if the addresses are those of the last time; a wrong one, or a wrong file, changes nothing."""
    with open_receiver() as receiver, prefect_api(stack) as api:
        told = stack.model_copy(update={"notify": SecretStr(receiver.address)})
        assert "stack is up after" in said(told)
        assert len(registered(api)) == len(FILE)
        assert "already up" in said(told)
        with pytest.raises(StackError, match=r"number 1 of 1, slak://\.\.\., is none"):
            said(stack.model_copy(update={"notify": SecretStr("slak://x")}))
        with monkeypatch.context() as patch:
            patch.setattr(read_pipelines, "__defaults__", (tmp_path / "no-such.yaml",))
            with pytest.raises(PipelinesError, match="expected a YAML file"):
                said(stack)
        assert len(registered(api)) == len(FILE)
        assert "nobody gets messages any more" in said(stack)
        assert not registered(api)


def said(settings: StackSettings) -> str:
    lines: list[str] = []
    local_stack.up(settings, lines.append)
    return "\n".join(lines)


@pytest.fixture
def make_run(client: SyncPrefectClient) -> Iterator[Any]:
    """Makes runs in work pool `gpu` that no worker takes, and puts them through states."""
    name = f"notified-{uuid4().hex[:8]}"
    deployment = client.create_deployment(client.create_flow_from_name(name), name, work_pool_name=registration.POOL)
    later: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))

    def make(*states: StateType | State[Any], message: str = "It broke.") -> str:
        run = client.create_flow_run_from_deployment(deployment, state=later, parameters={"model_name": name}).id
        for state in states:
            told = State[Any](type=state, message=message) if isinstance(state, StateType) else state
            client.set_flow_run_state(run, told, force=True)
        return name

    yield make
    client.delete_deployment(deployment)


def test_a_run_that_ended_badly_for_good_is_told_once(receiver: Receiver, make_run: Any) -> None:
    pending, running, crashed = StateType.PENDING, StateType.RUNNING, StateType.CRASHED
    name = make_run(pending, running, StateType.FAILED)
    make_run(pending, crashed, crashed)  # a worker reports it twice
    make_run(pending, running, crashed)  # is carried on
    make_run(pending, *[running, StateType.SCHEDULED] * 9, running, crashed, message="No heartbeat.")
    make_run(pending, running, StateType.COMPLETED)
    make_run(pending, running, StateType.CANCELLED)
    make_run(pending, running, Failed(name=VersionRefusedError.failed_name))  # event model.refused is told
    expect(receiver, f"{name} failed: {name}", *[f"{name} crashed: {name}"] * 2)


def test_without_addresses_nothing_is_left_in_prefect(stack: StackSettings, receiver: Receiver) -> None:
    with prefect_api(stack) as api:
        assert len(registered(api)) == len(FILE)
        assert SECRET not in api.post("/automations/filter", json={}).text
        assert SECRET not in api.post("/block_documents/filter", json={}).text
        register(stack, "")
        assert not registered(api)
        assert registration.NOTIFICATION_BLOCKS["info"] not in api.post("/block_documents/filter", json={}).text
    promote(uuid4().hex[:8])
    register(stack, receiver.address)
    expect(receiver)
    assert not [path for path in (stack.state_dir / "logs").iterdir() if SECRET in path.read_text()]


def test_a_receiver_that_drips_holds_up_nobody(stack: StackSettings, receiver: Receiver) -> None:
    """Prefect handles two actions at one time: the third would wait for minutes."""
    with open_dripping_receiver() as dripping:
        register(stack, f"{dripping} {receiver.address}")
        expect(receiver, *(promote(uuid4().hex[:8]) for _ in range(3)))


def registered(api: Any) -> list[str]:
    names = {each["name"] for each in FILE}
    return [each["name"] for each in api.post("/automations/filter", json={}).json() if each["name"] in names]
