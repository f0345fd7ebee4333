"""Which archives a pipeline takes, and under which key each is checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset_watch.rules import idempotency_key
from tasks.parameters import MAX_ARCHIVES, ValidationPolicy
from tasks.pipelines.rules import (
    ChosenArchive,
    PipelineError,
    PipelinePlan,
    Selection,
    choose_archives,
    invalid_message,
)

KINDS = st.sampled_from(["name", "glob", "champion"])


def archives(*names: str) -> tuple[ChosenArchive, ...]:
    return tuple(ChosenArchive(name=name, etag="e") for name in names)


def named(name: str) -> Selection:
    return Selection(entry=name, kind="name", archives=archives(name))


def glob(*names: str) -> Selection:
    return Selection(entry="*", kind="glob", archives=archives(*names))


def champion(*names: str) -> Selection:
    return Selection(entry="champion+", kind="champion", archives=archives(*names))


@pytest.mark.parametrize(
    ("selections", "expected"),
    [
        ([named("a"), named("b")], ["a", "b"]),
        ([glob("b", "a"), named("c")], ["b", "a", "c"]),
        ([champion("a", "b"), glob("b", "c"), named("a")], ["a", "b", "c"]),
    ],
)
def test_archives_come_once_in_the_order_of_the_entries(selections: list[Selection], expected: list[str]) -> None:
    """A glob, the champion and a name may overlap."""
    assert [each.name for each in choose_archives(selections).archives] == expected


def test_the_gold_archive_is_not_trained_on() -> None:
    gold = Selection(entry="g", kind="gold", archives=archives("g"))
    chosen = choose_archives([glob("a", "b"), gold])
    assert (chosen.archives, chosen.gold, chosen.all) == (archives("a", "b"), *archives("g"), archives("a", "b", "g"))
    assert PipelinePlan.from_json(chosen.to_json()) == chosen


def test_a_plan_of_an_earlier_release_is_read() -> None:
    kept = b'{"archives": [{"name": "a", "etag": "e"}]}'
    assert PipelinePlan.from_json(kept) == choose_archives([named("a")])


def test_every_fault_is_named() -> None:
    faults = [Selection(entry=fault, kind="name", fault=f"no {fault}.") for fault in ("x", "y")]
    with pytest.raises(PipelineError, match=r"no x\. no y\. .*'a' named twice"):
        choose_archives([*faults, named("a"), named("b"), named("a")])


def test_too_many_archives_are_refused() -> None:
    most = glob(*map(str, range(MAX_ARCHIVES)))
    assert len(choose_archives([most]).archives) == MAX_ARCHIVES
    with pytest.raises(PipelineError, match=rf"at most {MAX_ARCHIVES} archives, found {MAX_ARCHIVES + 1}"):
        choose_archives([most, named("one more")])


@given(st.lists(st.tuples(KINDS, st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4))))
def test_what_is_chosen_is_what_the_entries_stand_for(found: list[tuple[str, list[str]]]) -> None:
    selections = [
        Selection(entry="x", kind=kind, archives=archives(*names[: 1 if kind == "name" else None]))  # type: ignore[arg-type]
        for kind, names in found
    ]
    wanted = {archive.name for each in selections for archive in each.archives}
    explicit = [each.archives[0].name for each in selections if each.kind == "name"]
    if len(explicit) > len(set(explicit)):
        with pytest.raises(PipelineError, match="named twice"):
            choose_archives(selections)
    else:
        names = [each.name for each in choose_archives(selections).archives]
        assert (sorted(names), set(names)) == (sorted(wanted), wanted)


def test_the_same_bytes_are_checked_once_under_one_policy() -> None:
    archive = ChosenArchive(name="a.zip", etag="1")
    strict = ValidationPolicy(min_class_instances=50)
    keys = [
        archive.check_key(ValidationPolicy()),
        archive.check_key(strict),
        ChosenArchive(name="a.zip", etag="2").check_key(strict),
        ChosenArchive(name="b.zip", etag="1").check_key(strict),
    ]
    assert len(set(keys)) == len(keys)
    assert archive.check_key(strict) == ChosenArchive(name="a.zip", etag="1").check_key(strict)
    assert archive.check_key(ValidationPolicy()) == idempotency_key("a.zip", '"1"')


def test_the_message_links_every_report() -> None:
    message = invalid_message({"a.zip": "http://x/1", "b.zip": "http://x/2"})
    assert "2 archives" in message
    assert "a.zip (http://x/1), b.zip (http://x/2)" in message
