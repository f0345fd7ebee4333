"""The events that Prefect's server has."""

from typing import Any

from infra.stack_settings import StackSettings
from tests.clients import prefect_api
from tests.waiting import eventually


def emitted(kind: str, resource: str) -> dict[str, Any]:
    """The one event of a kind about a resource; the server stores it a moment after it was emitted."""
    (event,) = eventually(lambda: events(kind, resource), f"event {kind} about {resource}")
    return event


def events(kind: str, resource: str) -> list[dict[str, Any]]:
    """All events of a kind about a resource."""
    chosen = {"event": {"name": [kind]}, "resource": {"id": [resource]}}
    with prefect_api(StackSettings.load()) as api:
        found: list[dict[str, Any]] = (
            api.post("/events/filter", json={"filter": chosen}).raise_for_status().json()["events"]
        )
    return found


def related(event: dict[str, Any]) -> set[str]:
    """The ids of the related resources that are not Prefect's own."""
    ids = (each["prefect.resource.id"] for each in event["related"])
    return {each for each in ids if not each.startswith("prefect.")}
