"""The tables of flow parameters in docs/, written from the flows and their parameter models."""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from infra.stack_settings import ROOT
from tasks.parameter_form import arrange_schema, describe_type

DOCS = ROOT / "docs"
TABLE = re.compile(r"(<!-- parameters of ([a-z-]+) -->\n).*?(<!-- end of parameters -->)", re.DOTALL)
HEAD = "| parameter | default | meaning |\n|---|---|---|\n"


def write_tables(page: str) -> str:
    """The Markdown text of a page, with a new table between each pair of markers."""
    return TABLE.sub(lambda found: found[1] + parameter_table(found[2]) + found[3], page)


def parameter_table(flow: str) -> str:
    """A Markdown table of the parameters of a flow (`train-model`): one row per field, nested fields with dots."""
    module = flow.replace("-", "_")
    function = getattr(import_module(f"flows.{module}"), module).fn
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    parameters = inspect.signature(function).parameters
    rows = [row for name in parameters for row in _rows(name, hints[name], parameters[name].default)]
    return HEAD + "".join(f"| {name} | {default} | {_escape(meaning)} |\n" for name, default, meaning in rows)


def _rows(name: str, hint: Any, default: object) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401 - any annotation
    """The row of a parameter, and those of its fields if it is an object."""
    model = _model(hint)
    if model is None or not isinstance(default, model):
        yield f"`{name}`", _default(default), describe_type(hint)
    if model:
        yield from _field_rows(name, model)


def _field_rows(name: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for field, info in model.model_fields.items():
        inner, default = f"{name}.{field}", info.get_default(call_default_factory=True)
        nested = _model(info.annotation)
        yield f"`{inner}`", _default(default) if not nested or default is None else "the fields below", _meaning(info)
        if nested:
            yield from _field_rows(inner, nested)


def _model(hint: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    """The parameter model in an annotation such as `ParityPolicy | None`."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return kinds[0] if kinds else None


def _meaning(info: FieldInfo) -> str:
    """The description of a field with its limits, as in Prefect's form, but without its default."""
    kind: Any = Annotated[info.annotation, info]
    schema = TypeAdapter(kind).json_schema()
    schema.pop("default", None)
    arrange_schema({"properties": {"field": schema}})
    choices = ", ".join(f"`{choice}`" for choice in schema.get("enum", ()))
    return " ".join(filter(None, (str(schema["description"]), f"One of {choices}." if choices else "")))


def _escape(text: str) -> str:
    """Plain text for a cell: in Markdown a pipe ends the cell, and two stars are emphasis."""
    return re.sub(r"([|*])", r"\\\1", text)


def _default(value: object) -> str:
    if value in (inspect.Parameter.empty, PydanticUndefined):
        return "required"
    text = value if isinstance(value, str) else json.dumps(to_jsonable_python(value))
    return "none" if text in ("null", "[]") else f"`{text}`"


def main() -> int:
    """Write the tables, or with `--check` name the pages whose tables are out of date; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.parameter_tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a table is out of date")
    check = parser.parse_args().check
    written = {page: write_tables(page.read_text()) for page in sorted(DOCS.glob("*.md"))}
    stale = [page for page, text in written.items() if text != page.read_text()]
    if check and stale:
        names = ", ".join(page.name for page in stale)
        sys.stderr.write(f"expected the parameters of the flows, found older tables in {names}; run `make docs`\n")
        return 1
    for page in stale:
        page.write_text(written[page])
    return 0


if __name__ == "__main__":
    sys.exit(main())
