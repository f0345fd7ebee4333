"""Why Prefect refuses a parameter: in the words of its description, or with the name that was meant."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

from prefect.utilities.schema_tools.hydration import Placeholder

from tasks.errors import safe_repr

Schema = dict[str, Any]
Errors = Iterator[Any]
Keyword = Callable[[Any, Any, Any, Schema], Errors]
_ALL_PARAMETERS = "Parameters"  # the title that Prefect gives to the schema of a flow's parameters
_LONGEST_NAME = 100  # characters that are compared
_MOST_NAMES = 20  # that are told


def describe_schema_errors(keywords: dict[str, Keyword]) -> None:
    """Change the messages of the keywords of a JSON schema validator, and have it refuse parameters of no flow.

    Prefect takes a parameter that the flow does not have, and the run crashes.
    """
    described = {"pattern": _own, "format": _own, "type": _of_nothing, "not": _of_forbidden_value}
    keywords.update({name: _with_description(keywords[name], schemas) for name, schemas in described.items()})
    keywords["anyOf"] = _any_of(keywords["anyOf"])
    keywords["additionalProperties"] = _additional_properties(keywords["additionalProperties"])
    keywords["properties"] = _properties(keywords["properties"])


def sentence(description: str, found: object) -> str:
    """Return what was expected, what was found, and the rest of the description."""
    first, stop, rest = description.partition(". ")
    first = first.removesuffix(".")
    expected = first[:1].lower() + first[1:] if first[1:2].islower() or first[1:2] == " " else first
    return f"Expected {expected}; found {'nothing' if found is None else safe_repr(found)}.{' ' if stop else ''}{rest}"


def _own(_: Any, __: object, ___: object, schema: Schema) -> list[Schema]:  # noqa: ANN401
    return [schema]


def _of_nothing(_: Any, __: object, instance: object, schema: Schema) -> list[Schema]:  # noqa: ANN401
    """An item that was added to a list and left empty is null; for other values the message names the type."""
    return [schema] if instance is None else []


def _of_forbidden_value(validator: Any, rule: Schema, instance: object, schema: Schema) -> list[Schema]:  # noqa: ANN401
    """The schema that forbids a value describes the values that are expected instead."""
    kinds = [kind for kind in rule.get("anyOf", [rule]) if validator.evolve(schema=kind).is_valid(instance)]
    return [*kinds, rule, schema]


def _with_description(check: Keyword, described: Callable[[Any, Any, Any, Schema], list[Schema]]) -> Keyword:
    """The check with the first description that the schemas of `described` have as its message."""

    def check_with_description(validator: Any, rule: Any, instance: Any, schema: Schema) -> Errors:  # noqa: ANN401
        for error in check(validator, rule, instance, schema) or ():
            schemas = described(validator, rule, instance, schema)
            if description := next((each["description"] for each in schemas if each.get("description")), None):
                error.message = sentence(description, instance)
            yield error

    return check_with_description


def _any_of(check: Keyword) -> Keyword:
    """The check of an optional value, with the faults of the value: else the message is that no kind fits."""

    def check_of_value(validator: Any, rule: list[Any], instance: Any, schema: Schema) -> Errors:  # noqa: ANN401
        kinds = [
            at for at, kind in enumerate(rule) if kind != {"type": "null"} and (kind is True or "const" not in kind)
        ]
        words = [kind["const"] for kind in rule if kind is not True and "const" in kind]
        if (
            instance is None
            or instance in words
            or len(kinds) != 1
            or isinstance(instance, Placeholder)
            or rule[kinds[0]] is True
        ):
            for error in check(validator, rule, instance, schema) or ():
                if len(kinds) > 1 and schema.get("description"):
                    error.message = sentence(schema["description"], instance)
                yield error
        else:
            described = {"description": schema.get("description", ""), **rule[kinds[0]]}
            yield from validator.descend(instance, described, schema_path=kinds[0])

    return check_of_value


def _additional_properties(check: Keyword) -> Keyword:
    """The check of names that a group does not have, with the name that was meant."""

    def check_names(validator: Any, rule: Any, instance: Any, schema: Schema) -> Errors:  # noqa: ANN401
        if rule is False and _is_group(schema) and isinstance(instance, dict):
            yield from _unknown_names(validator, instance, schema)
        else:
            yield from check(validator, rule, instance, schema)

    return check_names


def _is_group(schema: Schema) -> bool:
    """Whether it is a group of parameters, as `arrange_schema` leaves them: not job variables, nor an answer."""
    return any("position" in field for field in schema.get("properties", {}).values())


def _properties(check: Keyword) -> Keyword:
    """The check of the parameters of a flow, which has those of its schema and no others."""

    def check_names(validator: Any, rule: Any, instance: Any, schema: Schema) -> Errors:  # noqa: ANN401
        if schema.get("title") == _ALL_PARAMETERS and isinstance(instance, dict):
            yield from _unknown_names(validator, instance, schema)
        yield from check(validator, rule, instance, schema)

    return check_names


def _unknown_names(validator: Any, instance: dict[str, Any], schema: Schema) -> Errors:  # noqa: ANN401
    """Yield an error for each name that is none; a name with a reason of its own has that reason."""
    known: Schema = schema.get("properties", {})
    explained = validator.evolve(schema=schema.get("propertyNames", True))
    unknown = (name for name in instance if name not in known and explained.is_valid(name))
    folded = {each.casefold(): each for each in known}
    for name in islice(unknown, _MOST_NAMES):
        groups = [each for each in known if _has_name(validator.evolve(schema=known[each]), name, instance[name])]
        near = get_close_matches(name[:_LONGEST_NAME].casefold(), folded)
        meant = [*(folded[each] for each in near), *(f"{group}.{name}" for group in groups)]
        fix = f"Did you mean {' or '.join(meant)}?" if meant else "docs/flows.md has them all."
        for error in validator.descend(instance, False):  # that schema refuses anything
            error.message = f"Expected a parameter of the flow; found {safe_repr(name)}. {fix}"
            yield error


def _has_name(validator: Any, name: str, value: Any) -> bool:  # noqa: ANN401
    """Whether a group has a parameter of that name, whatever its value; a name that is refused counts.

    A mapping that takes any name, such as that of a class, has none.
    """
    return _takes_name(validator, name, value) and not _takes_name(validator, f"{name} {name}", value)


def _takes_name(validator: Any, name: str, value: Any) -> bool:  # noqa: ANN401
    faults = [error.validator for error in validator.iter_errors({name: value}) if not error.path]
    return set(faults) <= {"not"}  # other faults of the whole are that it is no group, or does not have the name
