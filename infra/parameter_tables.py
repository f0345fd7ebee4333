"""The tables in docs/ that the code is the source of: parameters of flows, as Prefect shows them, events, findings."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from infra.generated_files import write_stale
from infra.stack_settings import ROOT
from tasks.finding_codes import Code
from tasks.orchestration.events import EVENTS
from tasks.parameters import TrainingOverrides
from tasks.training.base_models import FAMILIES, task_of
from tasks.training_arguments import REFUSED

DOCS = ROOT / "docs"
TABLE = re.compile(r"(<!-- parameters of ([a-z-]+) -->\n).*?(<!-- end of parameters -->)", re.DOTALL)
EVENTS_TABLE = re.compile(r"(<!-- events -->\n).*?(<!-- end of events -->)", re.DOTALL)
OVERRIDES_TABLE = re.compile(r"(<!-- training overrides -->\n).*?(<!-- end of training overrides -->)", re.DOTALL)
MODELS_TABLE = re.compile(r"(<!-- models -->\n).*?(<!-- end of models -->)", re.DOTALL)
CODES_TABLE = re.compile(r"(<!-- finding codes -->\n).*?(<!-- end of finding codes -->)", re.DOTALL)
HEAD = "| parameter | default | meaning |\n|---|---|---|\n"
_DEFAULT = re.compile(r" (Default \S+|(On|Off) by default)\.$")  # which the table has in a column of its own


def write_tables(page: str) -> str:
    """Return the Markdown text of a page, with a new table between each pair of markers."""
    written = TABLE.sub(lambda match: match[1] + parameter_table(match[2]) + match[3], page)
    written = EVENTS_TABLE.sub(lambda match: match[1] + event_table() + match[2], written)
    written = OVERRIDES_TABLE.sub(lambda match: match[1] + overrides_table() + match[2], written)
    written = MODELS_TABLE.sub(lambda match: match[1] + models_table() + match[2], written)
    return CODES_TABLE.sub(lambda match: match[1] + code_table() + match[2], written)


def flows_without_table(pages: Iterable[str]) -> list[str]:
    """Return the flows of which no page has a parameter table."""
    shown = {flow for page in pages for _, flow, _ in TABLE.findall(page)}
    flows = {path.stem.replace("_", "-") for path in (ROOT / "flows").glob("[a-z]*.py")}
    return sorted(flows - shown)


def parameter_table(flow: str) -> str:
    """Return a Markdown table of the parameters of a flow (`train-model`): a row per field, nested fields with dots.

    Of a flow that has none it is a sentence.
    """
    module = flow.replace("-", "_")
    schema = getattr(import_module(f"flows.{module}"), module).parameters
    rows = "".join(_rows("", schema.model_dump(), schema.definitions))
    return HEAD + rows if rows else "It has no parameters.\n"


def event_table() -> str:
    """Return a Markdown table of all events: a row per event, and below it one per field of its payload."""
    rows = ["| event | resource | is emitted when |\n|---|---|---|\n"]
    rows += (f"| `{kind}` | `{each.resource}` | {each.occasion} |\n" for kind, each in EVENTS.items())
    rows.append("\n| event | field of the payload | holds |\n|---|---|---|\n")
    for kind, each in EVENTS.items():
        rows += (f"| `{kind}` | `{name}` | {meaning} |\n" for name, meaning in each.payload.items())
    return "".join(rows)


def code_table() -> str:
    """Return a Markdown table of the codes that a finding may have."""
    rows = (f"| `{code}` | {code.severity} | {code.meaning} |\n" for code in Code)
    return "| code | severity | meaning |\n|---|---|---|\n" + "".join(rows)


def models_table() -> str:
    """Return a Markdown table of the models that can be trained and served, and one of the others."""
    rows = ["| family | tasks | tried |\n|---|---|---|\n"]
    for family in (each for each in FAMILIES if not each.refusal):
        tasks = ", ".join(dict.fromkeys(map(task_of, family.examples)))
        names = ", ".join(f"`{example}`" for example in family.examples)
        rows.append(f"| {family.name} | {tasks} | {names} |\n")
    rows.append("\n| refused | why |\n|---|---|\n")
    rows += (f"| {family.name} | {family.refusal}. |\n" for family in FAMILIES if family.refusal)
    return "".join(rows)


def overrides_table() -> str:
    """Return a Markdown table of the arguments of Ultralytics that a training may set, and one of the refused ones."""
    rows = ["| argument | meaning |\n|---|---|\n"]
    for name, field in TrainingOverrides.model_json_schema()["properties"].items():
        rows.append(f"| `{name}` | {_meaning(field)} |\n")
    reasons: dict[str, list[str]] = {}
    for name, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(f"`{name}`")
    rows.append("\n| refused | why |\n|---|---|\n")
    rows += (f"| {', '.join(names)} | {reason}. |\n" for reason, names in reasons.items())
    return "".join(rows)


def _meaning(field: Mapping[str, Any]) -> str:
    """The description of a field and its choices, for a cell of a table."""
    kinds = (field, *field.get("anyOf", ()))
    choices = [choice for kind in kinds for choice in kind.get("enum", ())]
    if choices and any(kind.get("type") == "boolean" for kind in kinds):
        choices = ["true", "false", *choices]
    text = _DEFAULT.sub("", field.get("description", ""))
    text += f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
    return re.sub(r"([|*])", r"\\\1", text)  # in Markdown a pipe ends the cell, and two stars are emphasis


def _rows(prefix: str, schema: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    """The row of each field of a schema, and below it those of its own fields if it is an object."""
    for name, field in schema.get("properties", {}).items():
        kinds = [field, *field.get("anyOf", ())]
        references = [kind["$ref"].rpartition("/")[2] for kind in kinds if "$ref" in kind]
        model = models[references[0]] if references else {}
        default = field.get("default", {})  # of a factory, which no schema has, ours is an empty dictionary
        if name in schema.get("required", ()):
            shown = "required"
        elif "properties" in model and default:
            shown = "the fields below"
        else:
            text = default if isinstance(default, str) else json.dumps(default, separators=(",", ":"))
            shown = "none" if text in ("null", "[]") else f"`{text}`"
        if prefix or shown != "the fields below":
            yield f"| `{prefix}{name}` | {shown} | {_meaning({**model, **field})} |\n"
        if references != [TrainingOverrides.__name__]:  # which have a table of their own
            yield from _rows(f"{prefix}{name}.", model, models)


def main() -> int:
    """Write the tables, or with `--check` say which are missing or out of date; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.parameter_tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a table is out of date")
    check = parser.parse_args().check
    written = {page: write_tables(page.read_text()) for page in sorted(DOCS.glob("*.md"))}
    if missing := flows_without_table(written.values()):
        names = ", ".join(f"<!-- parameters of {flow} -->" for flow in missing)
        sys.stderr.write(f"expected a table of the parameters of each flow, found no {names}; add it to flows.md\n")
        return 1
    stale = write_stale(written, check=check)
    if check and stale:
        names = ", ".join(page.name for page in stale)
        sys.stderr.write(f"expected the parameters of the flows, found older tables in {names}; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
