"""Why Prefect refuses a parameter, in the words of its description: a regular expression tells a newcomer nothing."""

from collections.abc import Callable, Iterator
from typing import Any

from prefect.utilities.schema_tools.hydration import Placeholder

from tasks.errors import safe_repr

Schema = dict[str, Any]
Errors = Iterator[Any]
Keyword = Callable[[Any, Any, Any, Schema], Errors]


def describe_schema_errors(keywords: dict[str, Keyword]) -> None:
    """Change what the keywords of a JSON schema validator say, not what they refuse."""
    told = {"pattern": _own, "format": _own, "type": _of_nothing, "not": _of_what_is_forbidden}
    keywords.update({name: _worded(keywords[name], described) for name, described in told.items()})
    keywords["anyOf"] = _any_of(keywords["anyOf"])


def sentence(description: str, found: object) -> str:
    """What was expected, what was found, and what else the description says."""
    first, stop, rest = description.partition(". ")
    first = first.removesuffix(".")
    expected = first[:1].lower() + first[1:] if first[1:2].islower() or first[1:2] == " " else first
    return f"Expected {expected}; found {'nothing' if found is None else safe_repr(found)}.{' ' if stop else ''}{rest}"


def _own(_: Any, __: object, ___: object, schema: Schema) -> list[Schema]:  # noqa: ANN401
    return [schema]


def _of_nothing(_: Any, __: object, instance: object, schema: Schema) -> list[Schema]:  # noqa: ANN401
    """An item that was added to a list and left empty is null for the server; of other values the type is said."""
    return [schema] if instance is None else []


def _of_what_is_forbidden(validator: Any, rule: Schema, instance: object, schema: Schema) -> list[Schema]:  # noqa: ANN401
    """A forbidden value is described where it is forbidden, so the description there says what is expected instead."""
    kinds = [kind for kind in rule.get("anyOf", [rule]) if validator.evolve(schema=kind).is_valid(instance)]
    return [*kinds, rule, schema]


def _worded(check: Keyword, described: Callable[[Any, Any, Any, Schema], list[Schema]]) -> Keyword:
    """The check with the first description of these schemas as its words, where one of them has one."""

    def told(validator: Any, rule: Any, instance: Any, schema: Schema) -> Errors:  # noqa: ANN401
        for error in check(validator, rule, instance, schema) or ():
            schemas = described(validator, rule, instance, schema)
            if description := next((each["description"] for each in schemas if each.get("description")), None):
                error.message = sentence(description, instance)
            yield error

    return told


def _any_of(check: Keyword) -> Keyword:
    """Of a value that may be left out, the faults of the value: else all that is said is that no kind fits."""

    def told(validator: Any, rule: list[Any], instance: Any, schema: Schema) -> Errors:  # noqa: ANN401
        kinds = [place for place, kind in enumerate(rule) if kind != {"type": "null"}]
        if instance is None or len(kinds) != 1 or isinstance(instance, Placeholder) or rule[kinds[0]] is True:
            yield from check(validator, rule, instance, schema)
        else:
            described = {"description": schema.get("description", ""), **rule[kinds[0]]}
            yield from validator.descend(instance, described, schema_path=kinds[0])

    return told
