"""What Prefect's form shows of the parameters of a flow: from the docstring, and for a model from its JSON schema."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel


def add_parameter_docs(story: Callable[..., object]) -> str:
    """The docstring of a flow with a section `Args`: what the types of its parameters say of themselves."""
    hints = get_type_hints(story, include_extras=True)
    arguments = [f"    {name}: {describe_type(hint)}" for name, hint in hints.items() if name != "return"]
    return "\n".join([inspect.getdoc(story) or "", "", "Args:", *arguments])


def describe_type(hint: Any) -> str:  # noqa: ANN401 - whatever stands behind the colon of a parameter
    """The description of a type, or of the part of it that has one; of a model the first line of its docstring."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return (inspect.getdoc(hint) or "").partition("\n")[0]
    if get_origin(hint) is Annotated:
        return next((found.description for found in hint.__metadata__ if getattr(found, "description", None)), "")
    return next(filter(None, map(describe_type, get_args(hint))), "")


def arrange_schema(schema: dict[str, Any]) -> None:
    """Arrange the JSON schema of a model: fields under their own names, in its order, with limits and default in words.

    Prefect's form sorts fields by `position`, and its database keeps no other order.
    """
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        told = [field.get("description", ""), _limits(field), _default(field.get("default"))]
        field |= {"title": name, "position": position, "description": " ".join(filter(None, told))}


def _limits(field: dict[str, Any]) -> str:
    """The values that a field takes, as a sentence."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    rules = kinds[0] if len(kinds) == 1 else {}
    words = {
        "minimum": "at least {:.12g}",
        "exclusiveMinimum": "above {:.12g}",
        "maximum": "at most {:.12g}",
        "exclusiveMaximum": "below {:.12g}",
        "multipleOf": "in steps of {:.12g}",
    }
    told = [words[rule].format(rules[rule]) for rule in words if rule in rules]
    if "minimum" in rules and "maximum" in rules:
        told[:2] = [f"{rules['minimum']:.12g} to {rules['maximum']:.12g}"]
    return f"{', '.join(told).capitalize()}." if told else ""


def _default(value: object) -> str:
    match value:
        case bool():
            return f"{'On' if value else 'Off'} by default."
        case int() | float():
            return f"Default {value:.12g}."
        case str():
            return f"Default {value}."
        case _:
            return ""
