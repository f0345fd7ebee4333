"""Events reach the server once, whatever is tried again."""

import logging
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.orchestration import events
from tasks.orchestration.retries import RetryPolicy
from tests.waiting import eventually

ONCE = RetryPolicy(attempts=1)


def stored(kind: str, resource: str) -> list[dict[str, Any]]:
    chosen = {"event": {"name": [kind]}, "resource": {"id": [resource]}}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/events/filter", json={"filter": chosen})
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def emit_roll_back(model: str, key: str) -> bool:
    facts = {"model": model, "version": 2, "replaced": 3}
    return events.emit(
        events.MODEL_ROLLED_BACK,
        events.version(model, 2),
        payload=facts,
        key=key,
        related=[events.model(model)],
    )


@pytest.mark.usefixtures("stack")
def test_an_event_is_stored_once_for_each_key() -> None:
    name = f"model-{uuid4()}"
    resource = f"version:{name}/2"
    assert emit_roll_back(name, f"{name} first")
    eventually(lambda: stored(events.MODEL_ROLLED_BACK, resource), "the event to be stored")
    assert emit_roll_back(name, f"{name} first")
    assert emit_roll_back(name, f"{name} second")
    eventually(lambda: len(stored(events.MODEL_ROLLED_BACK, resource)) > 1, "the second event to be stored")
    found = stored(events.MODEL_ROLLED_BACK, resource)
    assert len(found) == 2
    assert found[0]["payload"] == {"model": name, "version": 2, "replaced": 3}
    assert found[0]["resource"]["prefect.resource.name"] == f"{name} version 2"
    assert found[0]["related"] == [
        {
            "prefect.resource.id": f"model:{name}",
            "prefect.resource.name": name,
            "prefect.resource.role": "studio",
        }
    ]


@pytest.mark.usefixtures("stack")
def test_an_event_is_stored_at_once() -> None:
    """One that a server loses when it is killed is sent again by a run that is tried again."""
    name = f"model-{uuid4()}"
    assert emit_roll_back(name, name)
    eventually(lambda: stored(events.MODEL_ROLLED_BACK, f"version:{name}/2"), "the event to be stored", 1.5)


def test_an_event_that_no_server_takes_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    facts = {"model": "a", "version": 2, "replaced": None}
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        caplog.at_level(logging.WARNING),
    ):
        assert not events.emit(
            events.MODEL_ROLLED_BACK, events.version("a", 2), payload=facts, key=str(uuid4()), patience=ONCE
        )
    assert "event model.rolled-back was not emitted: Expected Prefect's server to answer" in caplog.text


@pytest.mark.parametrize("payload", [{"model": "a"}, {"model": "a", "version": 1, "replaced": 2, "more": 3}])
def test_a_payload_that_differs_from_the_documented_one_is_a_defect(payload: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected the fields"):
        events.emit(events.MODEL_ROLLED_BACK, events.version("a", 1), payload=payload, key="k")
