"""Who started a run, by its tags."""

import asyncio
from typing import Self

import pytest
from prefect import runtime
from starlette.concurrency import run_in_threadpool

from tasks.orchestration import deployed_flows, starters
from tasks.orchestration.starters import UNKNOWN, Starter, current_starter, starter_of, starter_tags, starting_for

OTTO = Starter(name="otto", role="operator")


def test_the_tags_say_name_and_role() -> None:
    assert starter_of(["a", *OTTO.tags]) == OTTO
    assert all(map(starters.is_starter_tag, OTTO.tags))


def test_a_run_without_such_tags_is_the_machines() -> None:
    """As those of a schedule, of an earlier release, and of a stack without accounts."""
    assert starter_of(["auto-scheduled", "pipeline:x"]) is None


@pytest.mark.parametrize(
    "tags",
    [
        ["started-by:otto"],
        ["role:admin"],
        ["started-by:a", "started-by:b", "role:admin"],
        ["started-by:otto", "role:operator", "role:admin"],
    ],
    ids=str,
)
def test_tags_that_do_not_name_one_person_are_of_nobody_who_may_anything(
    tags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = starter_of(tags)
    assert unknown == UNKNOWN
    assert not unknown.is_admin
    monkeypatch.setattr(runtime.flow_run, "tags", tags, raising=False)
    assert starter_of(starter_tags()) == UNKNOWN  # nor may a run that it starts


def test_tags_that_say_the_same_twice_name_one_person() -> None:
    assert starter_of([*OTTO.tags, *OTTO.tags]) == OTTO


def test_what_is_started_in_a_block_is_started_for_its_person() -> None:
    assert starter_tags() == []

    async def in_a_handler() -> Starter | None:
        with starting_for(OTTO):
            return await run_in_threadpool(current_starter)

    assert asyncio.run(in_a_handler()) == OTTO
    assert current_starter() is None


def test_a_child_run_is_of_who_started_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.flow_run, "tags", ["x", *OTTO.tags], raising=False)
    assert starter_tags() == OTTO.tags


def test_a_run_is_created_with_the_tags_of_its_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect is a stand-in, which notes what it is asked."""
    asked: dict[str, object] = {}

    class Client:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read_deployment_by_name(self, _: str) -> "Client":
            return self

        id = "an id"

        def create_flow_run_from_deployment(self, _: object, **values: object) -> "Client":
            asked.update(values)
            return self

    monkeypatch.setattr(deployed_flows, "patient_client", Client)
    with starting_for(OTTO):
        deployed_flows.start("train-model", {}, tags=["mine"])
    assert asked["tags"] == ["mine", *OTTO.tags]
