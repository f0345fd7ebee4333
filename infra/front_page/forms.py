"""The form of a flow: its fields from the JSON schema of the deployment, and the parameters that a person filled in."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from tasks.errors import StudioError, expected_found_fix, safe_repr

Kind = Literal["text", "number", "switch", "choice", "lines", "json"]
Schema = Mapping[str, Any]
_SCALARS: dict[str, Kind] = {"string": "text", "integer": "number", "number": "number", "boolean": "switch"}
_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A parameter in the form: `path` is its place (`training.epochs`), `text` what it holds, `default` in words."""

    path: str
    kind: Kind
    text: str
    default: str
    description: str
    choices: tuple[str, ...]
    required: bool

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that stand together, such as `training`; `path` is empty for those of the flow itself."""

    path: str
    description: str
    fields: tuple[Field, ...]


def list_groups(schema: Schema, chosen: Mapping[str, Sequence[str]]) -> list[Group]:
    """Return the form of a flow; `chosen` are the values of its fields, by path: several of a list."""
    return list(_groups("", schema, schema, chosen))


def parse_form(schema: Schema, filled: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the parameters of a run: what is left empty keeps the flow's default. Prefect's server checks the rest.

    `filled` are the texts in the fields, by path; the last one counts.

    Raises:
        StudioError: There is a field that the flow does not have, or JSON that is none.
    """
    fields = {field.path: field for group in list_groups(schema, {}) for field in group.fields}
    if unknown := sorted(filled.keys() - fields.keys()):
        raise StudioError(
            expected_found_fix("parameters of this flow", safe_repr(unknown[0]), "Reload the page, and start anew.")
        )
    parameters: dict[str, Any] = {}
    for path, texts in filled.items():
        if texts[-1].strip():
            *groups, name = path.split(".")
            place = parameters
            for group in groups:
                place = place.setdefault(group, {})
            place[name] = _value(fields[path], texts[-1])
    return parameters


def _groups(path: str, rules: Schema, schema: Schema, chosen: Mapping[str, Sequence[str]]) -> Iterator[Group]:
    required = set(rules.get("required", ()))
    inner: list[Iterator[Group]] = []
    fields = []
    for name, field in sorted(rules.get("properties", {}).items(), key=lambda item: item[1].get("position", 0)):
        place = f"{path}.{name}" if path else name
        if reference := _model(field):
            inner.append(_groups(place, schema["definitions"][reference], schema, chosen))
        else:
            fields.append(_field(place, field, chosen.get(place, ()), required=name in required))
    if fields:
        yield Group(path=path, description=rules.get("description", ""), fields=tuple(fields))
    for groups in inner:
        yield from groups


def _model(rules: Schema) -> str | None:
    """The name of the model that a field holds, among the definitions of the schema."""
    reference = next((each["$ref"] for each in (rules, *rules.get("allOf", ())) if "$ref" in each), None)
    return reference.rpartition("/")[2] if reference else None


def _field(path: str, rules: Schema, given: Sequence[str], *, required: bool) -> Field:
    # A number or a word, such as auto, is written as it is.
    kinds = [each for each in rules.get("anyOf", [rules]) if each.get("type") != "null" and "const" not in each]
    found = kinds[0] if len(kinds) == 1 else {}
    kind: Kind = "choice" if "enum" in found else _SCALARS.get(found.get("type", ""), "json")
    if found.get("type") == "array" and found["items"].get("type") == "string":
        kind = "lines"
    default = rules.get("default")
    return Field(
        path=path,
        kind=kind,
        text=_lines(given) if kind == "lines" else "".join(given[-1:]),
        default=default if isinstance(default, str) else json.dumps(default),
        description=rules.get("description") or found.get("description", ""),
        choices=tuple(map(str, found.get("enum", ()))),
        required=required,
    )


def _lines(given: Sequence[str]) -> str:
    """A line for each text; JSON if that would make others of them."""
    is_plain = all(text == text.strip() and len(text.splitlines()) == 1 and not text.startswith("[") for text in given)
    return "\n".join(given) if is_plain else json.dumps(list(given), ensure_ascii=False)


def _value(field: Field, text: str) -> Any:  # noqa: ANN401 - JSON
    if field.kind == "text":
        return text  # as it is: a name may begin with a blank
    text = text.strip()
    if field.kind == "lines" and not text.startswith("["):
        return [line.strip() for line in text.splitlines() if line.strip()]
    if field.kind in {"lines", "json"}:
        return _json(field, text)
    if field.kind == "switch":
        return _WORDS.get(text, text)
    return _number(text) if field.kind == "number" else text


def _number(text: str) -> int | float | str:
    """The number that a text is; the text itself, for Prefect's server to refuse, if it is none."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text  # JSON has no other
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _json(field: Field, text: str) -> Any:  # noqa: ANN401
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # an escape can say what is no Unicode text
    except (ValueError, RecursionError) as error:
        raise StudioError(
            expected_found_fix(f"JSON as {field.path}", safe_repr(text), f"Mind its quotes: {error}.")
        ) from error
    return value
