"""How much one search of MLflow may ask for: refused before the database is asked."""

from collections.abc import Callable
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

from infra.mlflow_searches import LONGEST_FILTER, MOST_CONDITIONS, MOST_SORTED_BY, bound_searches

Search = Callable[[str, list[str]], object]


class NoDatabaseError(Exception):
    """The search went on to its database."""


def stores() -> tuple[Any, Any]:
    """MLflow's two stores with no database behind them."""

    def connect(*_: object, **__: object) -> None:
        raise NoDatabaseError

    found = (Tracking.__new__(Tracking), Registry.__new__(Registry))
    for store in found:
        store.ManagedSessionMaker = connect
    return found


@pytest.fixture(autouse=True)
def _bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bound_searches(monkeypatch.setattr)


TRACKING, REGISTRY = stores()
SEARCHES: dict[str, Search] = {
    "runs": lambda text, keys: TRACKING.search_runs(["0"], text, 1, 5, keys),
    "experiments": lambda text, keys: TRACKING.search_experiments(filter_string=text, order_by=keys),
    "traces": lambda text, keys: TRACKING.search_traces(["0"], filter_string=text, order_by=keys),
    "logged models": lambda text, keys: TRACKING.search_logged_models(
        ["0"], filter_string=text, order_by=[{"field_name": key} for key in keys]
    ),
    "datasets": lambda text, keys: TRACKING.search_datasets(["0"], filter_string=text, order_by=keys),
    "registered models": lambda text, keys: REGISTRY.search_registered_models(text, 5, keys),
    "model versions": lambda text, keys: REGISTRY.search_model_versions(text, 5, keys),
}


def condition(number: int) -> str:
    return f"tags.a{number} LIKE '%x and y%'"


def refusal(search: Search, text: str = "", keys: list[str] | None = None) -> str:
    """What a search is refused with; empty if it goes on."""
    try:
        search(text, keys or [])
    except MlflowException as error:
        return error.message if "ask for less" in error.message else ""
    except Exception:  # noqa: BLE001 - whatever the search does without a database, it was let through
        return ""
    return ""


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_a_search_asks_for_so_many_conditions_and_keys_and_no_more(search: Search) -> None:
    most = " AND ".join(map(condition, range(MOST_CONDITIONS)))
    assert refusal(search, most, ["name"] * MOST_SORTED_BY) == ""
    assert "21" in refusal(search, f"{most} aNd {condition(99)}")
    assert "11" in refusal(search, "", ["name"] * (MOST_SORTED_BY + 1))
    assert "32769" in refusal(search, "x" * (LONGEST_FILTER + 1))


def test_both_sides_of_a_correlation_and_the_filters_of_metrics_are_bounded() -> None:
    long = " AND ".join(map(condition, range(MOST_CONDITIONS + 1)))
    for sides in ((long, ""), ("", long)):
        with pytest.raises(MlflowException, match="found 21"):
            TRACKING.calculate_trace_filter_correlation(["0"], *sides)
    with pytest.raises(MlflowException, match="found 21"):
        TRACKING.query_trace_metrics(["0"], "TRACES", "count", [], filters=["x"] * 21)


def test_a_filter_by_the_ids_of_hundreds_of_runs_is_taken() -> None:
    """As MLflow's pages ask for the runs of a list."""
    ids = ", ".join(f"'{number:032x}'" for number in range(500))
    assert refusal(SEARCHES["model versions"], f"run_id IN ({ids})") == ""
