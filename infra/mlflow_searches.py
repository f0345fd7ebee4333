"""How much one search of MLflow may ask of its database.

Each condition on a tag and each key to sort by is a join. MLflow has no bound: one request with 300 conditions took
4 GB of PostgreSQL. Whichever way a search comes in (its APIs, GraphQL), it is a call of one of MLflow's two stores, so
they are bounded there. How long a statement may take is in `infra/services.py`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sized
from typing import Any

from infra.mlflow_refusals import refusal

LONGEST_FILTER = 32 * 1024  # characters: MLflow's pages ask for the runs of a list by their ids
MOST_CONDITIONS = 20
MOST_SORTED_BY = 10
_FIX = "ask for less at once"
_FILTERS = ("filter_string", "filter_string1", "filter_string2", "base_filter")
_LISTS = {"order_by": MOST_SORTED_BY, "filters": MOST_CONDITIONS}


def bound_searches(replace: Callable[[type, str, Any], None] = setattr) -> None:
    """Have MLflow's stores refuse a search that asks for more; `replace` puts a function in the place of a method."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    bounded = {*_FILTERS, *_LISTS}
    for store in (Tracking, Registry):
        for name, method in [*vars(store).items()]:
            if inspect.isfunction(method) and bounded & inspect.signature(method).parameters.keys():
                replace(store, name, _bounded(method))


def _bounded(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @functools.wraps(method)
    def bounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of MLflow
        _require_bounds(signature.bind(*args, **kwargs).arguments)
        return method(*args, **kwargs)

    return bounded


def _require_bounds(arguments: Mapping[str, Any]) -> None:
    """Raise an error, which MLflow answers with 400, if a search is called for more than it may."""
    for name, most in _LISTS.items():
        given = arguments.get(name)
        if isinstance(given, Sized) and len(given) > most:
            raise refusal(f"at most {most} entries in {name}", str(len(given)), _FIX)
    for name in _FILTERS:
        text = arguments.get(name) or ""
        if len(text) > LONGEST_FILTER:
            raise refusal(f"a filter of at most {LONGEST_FILTER} characters", str(len(text)), _FIX)
        if (found := _conditions(text)) > MOST_CONDITIONS:
            raise refusal(f"at most {MOST_CONDITIONS} conditions in a filter", str(found), _FIX)


def _conditions(text: str) -> int:
    """How many conditions a filter has, by the reader that MLflow reads it with: quoted text may hold the word AND."""
    from sqlparse import lexer
    from sqlparse.tokens import Keyword

    tokens = lexer.tokenize(text)  # type: ignore[no-untyped-call]
    return 1 + sum(bool(kind in Keyword and word.upper() == "AND") for kind, word in tokens)
