"""Options that several commands have, and how `--set` becomes parameters."""

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
import yaml

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document; everything else is on standard error.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its end, or print its id at once.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="GROUP.NAME=VALUE", help="A parameter of the flow, in YAML; docs/flows.md has all."),
]
Limit = Annotated[int, typer.Option(min=1, max=500, help="Most entries of a page.")]
Cursor = Annotated[str, typer.Option(help="Where the page before ended.")]


def merge_settings(parameters: dict[str, Any], settings: Iterable[str] | None) -> dict[str, Any]:
    """Return the parameters with each `path=value` in its place; values are JSON or YAML, so `null` and `[1, 2]` work.

    Raises:
        typer.BadParameter: A setting has another form.
    """
    for setting in settings or ():
        path, equals, text = setting.partition("=")
        *groups, name = path.split(".")
        if not equals or not all([*groups, name]):
            raise typer.BadParameter(f"expected --set name=value or --set group.name=value, found {setting!r}")
        value = _value(path, text)
        place = parameters
        for group in groups:
            inner = place.setdefault(group, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"expected {group} in {setting!r} to hold parameters, found {inner!r}")
            place = inner
        place[name] = value
    return parameters


def _value(path: str, text: str) -> Any:  # noqa: ANN401 - JSON
    """JSON is read as such: in YAML `1e-05` is a text, and an escape of two halves is two signs."""
    try:
        try:
            value = json.loads(text)
        except ValueError:
            value = yaml.safe_load(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False, default=str).encode()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"expected a YAML or JSON value after {path}=, found {text!r}") from error
    return value


def given(**options: object) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}
