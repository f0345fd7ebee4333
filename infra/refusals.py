"""Why Prefect refuses a parameter, in the words of its description: a regular expression tells a newcomer nothing."""

from collections.abc import Callable, Iterator
from typing import Any

from prefect.utilities.schema_tools.hydration import Placeholder

from tasks.core.findings import quoted

Errors = Iterator[Any]
Keyword = Callable[[Any, Any, Any, dict[str, Any]], Errors]


def put_in_words(keywords: dict[str, Keyword]) -> None:
    """Change what the keywords of a JSON schema validator say, not what they refuse."""
    told = {"pattern": _described, "format": _described, "type": _filled, "not": _not, "anyOf": _any_of}
    keywords.update({name: tell(keywords[name]) for name, tell in told.items()})


def sentence(description: str, found: object) -> str:
    """What was expected, what was found, and what else the description says."""
    first, stop, rest = description.partition(". ")
    first = first.removesuffix(".")
    expected = first[:1].lower() + first[1:] if first[1:2].islower() or first[1:2] == " " else first
    return f"Expected {expected}; found {'nothing' if found is None else quoted(found)}.{' ' if stop else ''}{rest}"


def _described(check: Keyword) -> Keyword:
    def told(validator: Any, rule: str, instance: Any, schema: dict[str, Any]) -> Errors:  # noqa: ANN401
        return _worded(check(validator, rule, instance, schema), [schema], instance)

    return told


def _filled(check: Keyword) -> Keyword:
    """An item that was added to a list and left empty is null for the server; of other values the type is said."""

    def told(validator: Any, rule: object, instance: Any, schema: dict[str, Any]) -> Errors:  # noqa: ANN401
        return _worded(check(validator, rule, instance, schema), [schema] if instance is None else [], instance)

    return told


def _not(check: Keyword) -> Keyword:
    """A forbidden value is described where it is forbidden, so the description there says what is expected instead."""

    def told(validator: Any, rule: dict[str, Any], instance: Any, schema: dict[str, Any]) -> Errors:  # noqa: ANN401
        kinds = [kind for kind in rule.get("anyOf", [rule]) if validator.evolve(schema=kind).is_valid(instance)]
        return _worded(check(validator, rule, instance, schema), [*kinds, rule, schema], instance)

    return told


def _any_of(check: Keyword) -> Keyword:
    """Of a value that may be left out, the faults of the value: else all that is said is that no kind fits."""

    def told(validator: Any, rule: list[Any], instance: Any, schema: dict[str, Any]) -> Errors:  # noqa: ANN401
        kinds = [place for place, kind in enumerate(rule) if kind != {"type": "null"}]
        if instance is None or len(kinds) != 1 or isinstance(instance, Placeholder) or rule[kinds[0]] is True:
            yield from check(validator, rule, instance, schema)
        else:
            described = {"description": schema.get("description", ""), **rule[kinds[0]]}
            yield from validator.descend(instance, described, schema_path=kinds[0])

    return told


def _worded(errors: Errors, schemas: list[dict[str, Any]], instance: object) -> Errors:
    description = next((schema["description"] for schema in schemas if schema.get("description")), None)
    for error in errors or ():
        if description:
            error.message = sentence(description, instance)
        yield error
