"""What may be removed: never what is protected, whatever else is there."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.retention.rules import FORGOTTEN_AFTER, Choice, Kind, Leaving, State, choose

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
ALL_A_WEEK: dict[Kind, timedelta | None] = dict.fromkeys(Kind, WEEK)
GUARDS = ("unfinished", "served", "aliased", "champions", "named")

# Few ids and small sets, so that often one guard alone holds something that is old.
ids = st.sampled_from(["run-1", "shapes/1", "0af1"])
some = st.one_of(st.just(frozenset[str]()), ids.map(lambda each: frozenset({each})))
past = st.integers(0, 200).map(lambda days: NOW - timedelta(days=days))
leavings = st.builds(
    Leaving,
    kind=st.sampled_from(Kind),
    name=st.text(max_size=3),
    size=st.integers(0, 10),
    files=st.integers(0, 3),
    changed=past,
    owners=ids.map(lambda each: frozenset({each, "other"})),
)
states = st.builds(
    State,
    leavings=st.lists(leavings, max_size=8).map(tuple),
    unknown=some,
    ends=st.dictionaries(ids, past),
    **dict.fromkeys(GUARDS, some),
)
retentions = st.fixed_dictionaries(
    dict.fromkeys(Kind, st.one_of(st.none(), st.integers(0, 10).map(lambda days: timedelta(days=days))))
)


@given(states, retentions)
def test_nothing_goes_that_is_protected_young_or_for_ever(
    state: State, retention: dict[Kind, timedelta | None]
) -> None:
    choice = choose(state, retention, NOW)
    for leaving in choice.going:
        for guard in GUARDS:
            assert not leaving.owners & getattr(state, guard), guard
        days = retention[leaving.kind]
        assert days is not None
        assert NOW - leaving.changed >= days
        assert all(NOW - state.ends[owner] >= days for owner in leaving.owners if owner in state.ends)
        assert not leaving.owners & state.unknown or NOW - leaving.changed >= FORGOTTEN_AFTER


@given(states, retentions)
def test_all_is_told_once_and_what_goes_is_told_oldest_first(
    state: State, retention: dict[Kind, timedelta | None]
) -> None:
    choice = choose(state, retention, NOW)
    told = [*choice.going, *(leaving for leaving, _ in choice.staying)]
    assert sorted(told, key=repr) == sorted(state.leavings, key=repr)
    assert list(choice.going) == sorted(choice.going, key=lambda each: each.changed)
    assert all(reason for _, reason in choice.staying)


@given(states, retentions)
def test_a_second_clean_up_finds_nothing_to_do(state: State, retention: dict[Kind, timedelta | None]) -> None:
    left = tuple(leaving for leaving, _ in choose(state, retention, NOW).staying)
    guards = {guard: getattr(state, guard) for guard in (*GUARDS, "unknown")}
    assert choose(State(leavings=left, ends=state.ends, **guards), retention, NOW).going == ()


def old(**named: object) -> Leaving:
    values = {"kind": Kind.GRAPHS, "name": "old", "size": 1, "files": 1, "changed": NOW - 2 * WEEK}
    return Leaving(**(values | {"owners": frozenset({"shapes/1"})} | named))  # type: ignore[arg-type]


def chosen(leaving: Leaving, **guards: frozenset[str]) -> Choice:
    return choose(State(leavings=(leaving,), **guards), ALL_A_WEEK, NOW)  # type: ignore[arg-type]


def test_what_is_old_and_belongs_to_nobody_who_matters_goes() -> None:
    leaving = old()
    assert chosen(leaving, **dict.fromkeys(GUARDS, frozenset({"shapes/2"}))).going == (leaving,)


@pytest.mark.parametrize(
    ("guard", "reason"),
    [
        ("unfinished", "its flow run has not ended"),
        ("served", "it is served"),
        ("aliased", "it has an alias"),
        ("champions", "it is or was champion"),
        ("named", "the lineage of something that stays names it"),
        ("unknown", "Prefect does not know its flow run"),
    ],
)
def test_each_guard_holds_alone_and_says_why(guard: str, reason: str) -> None:
    leaving = old(owners=frozenset({"shapes/1", "run-1"}))
    choice = chosen(leaving, **{guard: frozenset({"run-1"})})
    assert choice == Choice(going=(), staying=((leaving, reason),))


def test_what_prefect_has_forgotten_goes_when_it_would_have() -> None:
    leaving = old(changed=NOW - FORGOTTEN_AFTER)
    assert chosen(leaving, unknown=frozenset({"shapes/1"})).going == (leaving,)


def test_the_last_day_of_a_retention_counts() -> None:
    assert chosen(old(changed=NOW - WEEK)).going
    assert not chosen(old(changed=NOW - WEEK + timedelta(seconds=1))).going


def test_what_a_round_waits_for_as_long_as_it_may_is_kept_after_its_end_too() -> None:
    images = State(leavings=(old(owners=frozenset({"run-1"})),), ends={"run-1": NOW - timedelta(minutes=5)})
    assert not choose(images, ALL_A_WEEK, NOW).going
    assert choose(images, ALL_A_WEEK, NOW + WEEK).going
