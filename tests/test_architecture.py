"""The house rules that a machine can check."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def files(folder: str, pattern: str = "**/*.py") -> list[Path]:
    return sorted((ROOT / folder).glob(pattern))


@pytest.mark.parametrize("path", files("flows", "[a-z]*.py"), ids=str)
def test_a_flow_is_named_like_its_file_and_calls_no_library(path: Path) -> None:
    """One flow a file, under the file's name, before its private parts; of libraries it knows Prefect alone."""
    functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert [name for name in functions if not name.startswith("_")] == [path.stem] == functions[:1]
    assert {name.split(".")[0] for name in imports(path)} <= {"prefect", "tasks", "pathlib"}


COPIED = [*files("model_repository"), ROOT / "tasks" / "tracking" / "pyfunc_model.py"]


@pytest.mark.parametrize("path", COPIED, ids=str)
def test_served_code_stands_alone(path: Path) -> None:
    """What is copied into the model repository or the registry imports nothing of ours."""
    assert not {name.split(".")[0] for name in imports(path)} & {"tasks", "flows", "infra"}


LOADERS = {ROOT / "tasks" / "weights" / "loader.py", ROOT / "tasks" / "tracking" / "pyfunc_model.py"}
PICKLES = re.compile(
    r"\bYOLO\(|\b(torch|joblib|dill|pickle|cloudpickle|marshal|shelve)\.|read_pickle|load_checkpoint|torch_load|"
    r"torch_safe_load|pyfunc\.load|allow_pickle=True|torch_utils\.strip_optimizer"
)
PRODUCT = [path for folder in ("tasks", "flows", "infra", "model_repository", "deployments") for path in files(folder)]


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_pickles_are_opened_in_one_place(path: Path) -> None:
    """Loading one may run code: the code that refuses it is the only code that loads any."""
    found = {match[0] for match in PICKLES.finditer(path.read_text())} - {"torch."}
    assert path in LOADERS or not found
    assert "torch.load" not in path.read_text()
