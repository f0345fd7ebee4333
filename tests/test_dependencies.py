"""What is imported is declared in pyproject.toml, from a version that the tests ran with."""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT
from tests.test_architecture import PRODUCT, imports

KNOWN = {
    *sys.stdlib_module_names,
    *("tasks", "flows", "infra", "deployments", "model_repository", "studio", "examples", "tests"),
    "triton_python_backend_utils",  # Triton's own
    "openvino",  # of .venv-triton
    "cleanvision",  # tests/benchmarks/peers.py makes an environment for it
    "sahi",  # tests/benchmarks/slicers.py says how to have it
    *("_typeshed", "mypy_boto3_s3"),  # for mypy alone: its own, and that of boto3-stubs[s3]
}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN_TIME: list[str] = PROJECT["project"]["dependencies"]
OPTIONAL: list[str] = PROJECT["project"]["optional-dependencies"]["supervision"]
DEVELOPMENT: list[str] = PROJECT["dependency-groups"]["dev"]


def declared(requirements: Iterable[str]) -> set[str]:
    """The names of distributions as package metadata compares them."""
    return {canonical(re.split(r"[\[<>=!~; ]", requirement)[0]) for requirement in requirements}


def canonical(name: str) -> str:
    """The name of a distribution, which may be written with a _ for each -."""
    return name.lower().replace("_", "-")


def undeclared(paths: Iterable[Path], requirements: Iterable[str]) -> dict[str, str]:
    """A file that imports it, for each module that no declared distribution provides."""
    providers, names = packages_distributions(), declared(requirements)
    return {
        module: str(path)
        for path in paths
        for module in {name.split(".")[0] for name in imports(path)}
        - KNOWN
        - {file.stem for file in path.parent.iterdir()}
        if not {canonical(provider) for provider in providers.get(module, [])} & names
    }


def test_product_code_imports_what_is_declared() -> None:
    assert not undeclared(PRODUCT, [*RUN_TIME, *OPTIONAL])


def test_tests_and_examples_import_what_is_declared() -> None:
    paths = [path for folder in ("tests", "examples") for path in (ROOT / folder).rglob("*.py")]
    assert not undeclared(paths, [*RUN_TIME, *DEVELOPMENT])


def test_an_undeclared_import_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "odd.py"
    source.write_text("import json\nimport yaml\nfrom cv2 import imread\nimport nowhere.at_all\n")
    assert undeclared([source], ["PyYAML>=6", "opencv-python-headless"]) == {"nowhere": str(source)}
    assert undeclared([source], ["pyyaml"]).keys() == {"cv2", "nowhere"}


@pytest.mark.parametrize("requirement", [*RUN_TIME, *DEVELOPMENT])
def test_a_lower_bound_is_a_version_that_the_tests_ran_with(requirement: str) -> None:
    """The pins are what the tests run with, so a bound has the major and minor number of the pin."""
    name, bound = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)(?:,<[\d.]+)?", requirement).groups()  # type: ignore[union-attr]
    pinned = re.findall(rf"(?m)^{name}(?:\[[\w,]+\])?==([\d.]+)", (ROOT / "requirements-dev.txt").read_text())
    assert any(f"{pin}.".startswith(f"{'.'.join(bound.split('.')[:2])}.") for pin in pinned), (bound, pinned)
