"""When an event occurred, of a machine whose clock is right, behind or ahead."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.server.events.schemas.events import Event, Resource

from infra.event_times import TOLERANCE, use_the_servers_clock

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Event, "receive", Event.receive)  # is put back afterwards
    use_the_servers_clock()


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_an_event_of_a_wrong_clock_is_of_now(hours: int) -> None:
    assert occurred(NOW + timedelta(hours=hours)) == NOW


@pytest.mark.parametrize("moment", [NOW, NOW - TOLERANCE, NOW + TOLERANCE])
def test_an_event_of_a_clock_that_is_nearly_right_keeps_its_time(moment: datetime) -> None:
    assert occurred(moment) == moment


def occurred(moment: datetime) -> datetime:
    """By the server, of an event with this moment."""
    resource = Resource({"prefect.resource.id": "prefect.flow-run.x"})
    event = Event(id=uuid4(), occurred=moment, event="prefect.flow-run.heartbeat", resource=resource)
    now: Any = NOW
    received = event.receive(now)
    assert (received.id, received.event, received.received) == (event.id, event.event, NOW)
    return received.occurred
