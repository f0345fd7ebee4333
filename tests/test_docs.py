"""What README and docs say is true, as far as a machine can tell: tables, links, commands, examples."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from infra.demo_data import CLASSES, ArchivePlan, write_archive
from infra.parameter_tables import TABLE, code_table, flows_without_table, parameter_table, write_tables
from infra.stack_settings import StackSettings
from tasks.orchestration.events import EVENTS
from tests.paths import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FLOWS = {path.stem.replace("_", "-") for path in (ROOT / "flows").glob("[a-z]*.py")}
BLOCK = re.compile(r"(<!-- runs -->\n)?```sh\n(.*?)```", re.DOTALL)


def text_without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text_without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def blocks(page: Path) -> list[tuple[bool, str]]:
    """Whether a shell block of a page is to be run, and its text."""
    return [(bool(mark), block) for mark, block in BLOCK.findall(page.read_text())]


RUNNABLE = [(page.name, block) for page in PAGES for runs, block in blocks(page) if runs]
COMMANDS = "\n".join(block for page in PAGES for _, block in blocks(page))
EVERYTHING = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_parameter_tables_are_those_of_the_flows(page: Path) -> None:
    assert page.read_text() == write_tables(page.read_text()), "run `make docs`"


def test_every_flow_has_a_parameter_table_in_the_reference() -> None:
    assert {flow for _, flow, _ in TABLE.findall((DOCS / "flows.md").read_text())} == FLOWS


def test_a_flow_without_a_parameter_table_is_named() -> None:
    text = (DOCS / "flows.md").read_text()
    assert flows_without_table([text]) == []
    assert flows_without_table([text.replace("<!-- parameters of clean-up -->", "")]) == ["clean-up"]


def test_every_event_and_every_field_of_its_payload_is_in_the_table() -> None:
    """And the table names nothing else; the other tests hold the table in the docs to this one."""
    page = (DOCS / "automation.md").read_text()
    (table,) = re.findall(r"<!-- events -->\n(.*?)<!-- end of events -->", page, re.DOTALL)
    kinds, _, fields = table.partition("\n\n")
    assert set(re.findall(r"^\| `([a-z.-]+)` \|", kinds, re.MULTILINE)) == EVENTS.keys()
    named = re.findall(r"^\| `([a-z.-]+)` \| `(\w+)` \|", fields, re.MULTILINE)
    assert named == [(kind, name) for kind, each in EVENTS.items() for name in each.payload]


def test_an_old_table_is_replaced_and_the_rest_of_the_page_stays() -> None:
    page = "before\n<!-- parameters of undeploy-model -->\nold\n<!-- end of parameters -->\nafter\n"
    written = write_tables(page)
    assert written == page.replace("old\n", parameter_table("undeploy-model"))


def test_a_table_has_required_nested_and_optional_parameters_and_their_limits() -> None:
    table = parameter_table("deploy-model")
    assert "| `model_name` | required | A name of letters" in table
    assert "| `version` | none | " in table
    assert "| `serving.parity.max_map_drop` | `0.01` | " in table
    assert re.search(r"\| `serving.instances` \| `1` \| .* 1 to 64\. \|", table)
    assert re.search(r"\| `serving.backend` \| `python` \| .* One of `python`, `onnxruntime`\. \|", table)


@pytest.mark.parametrize("page", sorted({*PAGES, *ROOT.glob("*.md")}), ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    """The site generator checks links between the pages of docs/, but neither the README nor pictures."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text_without_code(page)):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


def test_the_site_has_every_page() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text())
    listed = re.findall(r"[\w-]+\.md", json.dumps(settings["project"]["nav"]))
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_make_targets_and_modules_in_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", EVERYTHING, re.MULTILINE))
    assert {"demo", "test", "check"} <= named
    assert named <= targets
    modules = set(re.findall(r"python -m ((?:infra|tasks|tests)[\w.]*)", EVERYTHING))
    assert [module for module in sorted(modules) if importlib.util.find_spec(module) is None] == []


def examples() -> list[tuple[str, str]]:
    """The flow and the JSON of each example that starts a run."""
    found = []
    for block in (block for page in PAGES for _, block in blocks(page)):
        flows = {
            first or second for first, second in re.findall(r"'([a-z-]+)/gpu'|^start ([a-z-]+) ", block, re.MULTILINE)
        }
        found += [(flow, text) for flow in flows for text in re.findall(r"'(\{.*?\})'", block, re.DOTALL)]
    return found


@pytest.mark.parametrize(("flow", "parameters"), examples())
def test_parameters_in_examples_are_accepted(flow: str, parameters: str) -> None:
    module = flow.replace("-", "_")
    getattr(import_module(f"flows.{module}"), module).validate_parameters(json.loads(parameters))


def test_every_flow_has_an_example() -> None:
    assert {flow for flow, _ in examples()} == FLOWS


@pytest.fixture(scope="module")
def drawn_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(
        ArchivePlan(name="shapes-a.zip", classes=CLASSES, train=12, val=6, seed=1), tmp_path_factory.mktemp("drawn")
    )


@pytest.mark.parametrize("block", [block for _, block in RUNNABLE], ids=[page for page, _ in RUNNABLE])
def test_commands_in_docs_run(block: str, drawn_archive: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn_archive.parent, tmp_path / "shapes")
    for name in (".venv", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_docs_have_the_table_of_codes() -> None:
    assert code_table() in (DOCS / "validation.md").read_text()


@pytest.mark.parametrize("name", StackSettings.model_fields)
def test_operations_has_every_setting_of_the_stack_with_its_default(name: str) -> None:
    rows = [row for row in (DOCS / "operations.md").read_text().splitlines() if f"`STUDIO_{name.upper()}`" in row]
    default = StackSettings.model_fields[name].default
    shown = default.name if isinstance(default, Path) else str(default or "none")
    assert any(shown in re.split(r"[|,`\s]+", row) for row in rows)
