"""The texts of Prefect's form: from the docstring of a flow, and from the JSON schema of a parameter model."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel


def add_parameter_docs(story: Callable[..., object]) -> str:
    """Return the docstring of a flow with a section `Args`: the descriptions of the types of its parameters."""
    hints = get_type_hints(story, include_extras=True)
    arguments = [f"    {name}: {describe_type(hint)}" for name, hint in hints.items() if name != "return"]
    return "\n".join([inspect.getdoc(story) or "", "", "Args:", *arguments])


def describe_type(hint: Any) -> str:  # noqa: ANN401 - any annotation
    """Return the description of a type or of a part of it; of a model the first line of its docstring."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return (inspect.getdoc(hint) or "").partition("\n")[0]
    if get_origin(hint) is Annotated:
        return next((each.description for each in hint.__metadata__ if getattr(each, "description", None)), "")
    return next(filter(None, map(describe_type, get_args(hint))), "")


def arrange_schema(schema: dict[str, Any]) -> None:
    """Add to each field of a JSON schema its name, position, and limits and default in words.

    Prefect's form sorts fields by `position`; its database keeps no other order.
    """
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        texts = [field.get("description", ""), _limits(field), _default(field.get("default"))]
        field |= {"title": name, "position": position, "description": " ".join(filter(None, texts))}


def _limits(field: dict[str, Any]) -> str:
    """The range of a field, as a sentence."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null" and "const" not in kind]
    rules = kinds[0] if len(kinds) == 1 else {}
    words = {
        "minimum": "at least {:.12g}",
        "exclusiveMinimum": "above {:.12g}",
        "maximum": "at most {:.12g}",
        "exclusiveMaximum": "below {:.12g}",
        "multipleOf": "in steps of {:.12g}",
    }
    limits = [words[rule].format(rules[rule]) for rule in words if rule in rules]
    if "minimum" in rules and "maximum" in rules:
        limits[:2] = [f"{rules['minimum']:.12g} to {rules['maximum']:.12g}"]
    return f"{', '.join(limits).capitalize()}." if limits else ""


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
