"""What may be removed without asking a person, and why the rest stays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tasks.parameters import CleanUpParams

# Prefect's server forgets a run 90 days after its end (`infra/services.py`). A run that it does not know may as well be
# one of another server, and at work.
FORGOTTEN_AFTER = timedelta(days=90)


class Kind(StrEnum):
    """What is left behind, by the name that people read."""

    CHECKPOINTS = "checkpoints of trainings"
    PARTS = "parts of inferences, evaluations, monitorings and reviews, and lists of images"
    PREDICTIONS = "predictions"
    GRAPHS = "graphs of versions that were never champion"
    UPLOADS = "uploads of archives that were cut off"
    SCRATCH = "scratch folders on this worker"
    TRACKED = "deleted runs and models of MLflow"


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """What was left behind: `size` bytes in `files` objects or files, last changed at `changed`.

    `name` is its address. `owners` are the flow runs, the runs of MLflow and the versions (`shapes/3`) to which it
    belongs: what protects one of them protects it.
    """

    kind: Kind
    name: str
    size: int
    files: int
    changed: datetime
    owners: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class State:
    """What is left behind, and who is protected, by the ids that `Leaving.owners` has.

    Args:
        leavings: All that was left behind.
        unfinished: Flow runs that have not ended, and the versions of models whose deployment has not.
        unknown: Flow runs that Prefect does not know.
        ends: When flow runs ended that have.
        served: Versions that Triton serves, or that runs of inference hold.
        aliased: Versions with an alias.
        champions: Versions that are or were champion.
        named: What the lineage of something that stays names.
        unasked: Kinds that nobody could be asked for, with the reason and what a person can do.
    """

    leavings: tuple[Leaving, ...]
    unfinished: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    ends: Mapping[str, datetime] = field(default_factory=dict)
    served: frozenset[str] = frozenset()
    aliased: frozenset[str] = frozenset()
    champions: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    unasked: Mapping[Kind, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What goes, oldest first, what stays with the reason, and of which kinds nobody knows, with the reason."""

    going: tuple[Leaving, ...]
    staying: tuple[tuple[Leaving, str], ...]
    unasked: Mapping[Kind, str] = field(default_factory=dict)


def retention(cleaning: CleanUpParams) -> dict[Kind, timedelta | None]:
    """Return how long each kind stays; None is for ever."""
    days = {kind: getattr(cleaning, kind.name.lower()) for kind in Kind}
    return {kind: None if value is None else timedelta(days=value) for kind, value in days.items()}


def choose(state: State, retention: Mapping[Kind, timedelta | None], now: datetime) -> Choice:
    """Return what may go at `now`: what is old enough and belongs to nobody who is protected.

    Args:
        state: What is there.
        retention: How long each kind stays after its last change and after the end of its run; None keeps it for ever.
        now: The time of the choice.
    """
    going, staying = [], []
    for leaving in sorted(state.leavings, key=lambda each: (each.changed, each.name)):
        reason = reason_to_stay(leaving, state) or _reason_of_age(leaving, state, retention[leaving.kind], now)
        if reason:
            staying.append((leaving, reason))
        else:
            going.append(leaving)
    return Choice(going=tuple(going), staying=tuple(staying), unasked=state.unasked)


def reason_to_stay(leaving: Leaving, state: State) -> str | None:
    """Return who protects it, however old it is; None if nobody does."""
    guards = {
        "its flow run has not ended": state.unfinished,
        "it is served": state.served,
        "it has an alias": state.aliased,
        "it is or was champion": state.champions,
        "the lineage of something that stays names it": state.named,
    }
    return next((reason for reason, protected in guards.items() if leaving.owners & protected), None)


def _reason_of_age(leaving: Leaving, state: State, days: timedelta | None, now: datetime) -> str | None:
    if days is None:
        return "this kind is kept for ever"
    ends = (state.ends[owner] for owner in leaving.owners & state.ends.keys())
    age = now - max([leaving.changed, *ends])  # what a round waits for may be as old as it may wait
    if age < days:
        return "it is not old enough"
    if leaving.owners & state.unknown and age < FORGOTTEN_AFTER:
        return "Prefect does not know its flow run"
    return None
