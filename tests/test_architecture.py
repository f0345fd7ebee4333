"""The house rules that a machine can check; docs/architecture.md holds the tables that are read here."""

import ast
import re
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT

CLIENTS = {
    *("prefect", "mlflow", "boto3", "botocore", "s3transfer", "obstore", "tritonclient"),
    *("httpx", "requests", "urllib3", "torch", "ultralytics", "onnxruntime", "openvino", "cvat_sdk"),
}
OUTSIDE = {"flows", "infra", "deployments", "model_repository", "studio", "examples", "tests"}
SUB_ROOMS = {("serving", "parity"), ("training", "trainer"), ("inference", "results")}


def files(folder: str, pattern: str = "**/*.py") -> list[Path]:
    return sorted((ROOT / folder).glob(pattern))


def imports(path: Path, text: str | None = None) -> set[str]:
    """Full names of all modules that a file imports, wherever in it, or that it would with another text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = imported_from(path, node)
            found |= {module} | {f"{module}.{name.name}" for name in node.names}
    return found


def imported_from(path: Path, node: ast.ImportFrom) -> str:
    """Full name of what stands after `from`, also if it begins with dots."""
    base = module_of(path.parents[node.level - 1]) if node.level else ""
    return ".".join(filter(None, [base, node.module]))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in files("tasks") if path.parent != ROOT / "tasks" or path.stem != "__init__"}


def room_of(module: str) -> str:
    """`tasks.merge.plan` is in room `merge`, `tasks.errors` is a room of its own."""
    _, first, *rest = module.split(".")
    return f"{first}.{rest[0]}" if rest and (first, rest[0]) in SUB_ROOMS else first


def table(title: str) -> dict[str, set[str]]:
    """The names in the second column of the table below a heading, by those of the first."""
    text = (ROOT / "docs" / "architecture.md").read_text().partition(f"\n### {title}\n")[2].partition("\n#")[0]
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `")]
    return {
        room: set(re.findall(r"`([\w.]+)`", others)) for left, others in rows for room in re.findall(r"`(.+?)`", left)
    }


ALLOWED = table("Which room imports which")
CALLS = table("Which module calls which outside system")


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_the_rooms_that_its_row_names(module: str) -> None:
    names = imports(MODULES[module])
    assert not {name.split(".")[0] for name in names} & OUTSIDE
    rooms = {room_of(name) for name in names if name in MODULES} - {room_of(module)}
    assert rooms <= ALLOWED[room_of(module)]


def test_the_rooms_that_know_tracking_are_told() -> None:
    text = (
        (ROOT / "docs" / "architecture.md").read_text().partition("\n`tracking` stands above")[2].partition("\n\n")[0]
    )
    told = set(re.findall(r"`(\w+)`", text))
    assert told == {room for room, others in ALLOWED.items() if "tracking" in others}


def test_each_arrow_of_the_table_is_there() -> None:
    """So that the table says what is, and an arrow that nobody needs any longer is taken out."""
    drawn: dict[str, set[str]] = {room_of(module): set() for module in MODULES}
    for module, path in MODULES.items():
        drawn[room_of(module)] |= {room_of(name) for name in imports(path) if name in MODULES} - {room_of(module)}
    assert drawn == ALLOWED


def test_the_files_that_answer_where_a_rule_is_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().partition("\n### Where is the rule that …\n")[2]
    answers = re.findall(r"`(tasks\S+)`", text.partition("\n\nAn error")[0])
    assert len(answers) >= 10
    assert [path for path in answers if not (ROOT / path).exists()] == []


def test_clients_are_imported_where_the_table_says_so_and_nowhere_else() -> None:
    """Those of services, and torch and Ultralytics."""
    front_page = {module_of(path): path for path in files("infra/front_page")}
    called: dict[str, set[str]] = {name: set() for name in CALLS}
    for module, path in {**MODULES, **front_page}.items():
        clients = {name.split(".")[0] for name in imports(path)} & CLIENTS
        rows = CALLS.keys() & {module.removeprefix("tasks."), module.split(".")[1], module.rpartition(".")[2]}
        assert clients <= set().union(*(CALLS[row] for row in rows)), module
        for row in rows:
            called[row] |= clients & CALLS[row]
    assert called == CALLS


def test_every_import_is_written_as_one() -> None:
    """So that these tests see it."""
    hidden = re.compile(r"\b(import_module|__import__)\(")
    assert [module for module, path in MODULES.items() if hidden.search(path.read_text())] == []


def test_the_package_itself_makes_loading_safe_and_does_nothing_else() -> None:
    """It runs before every rule."""
    safe = "tasks.weights.isolation"
    assert imports(ROOT / "tasks" / "__init__.py") == {"os", safe, f"{safe}.load_weights_safely"}


@pytest.mark.parametrize("path", files("tasks/vision"), ids=str)
def test_vision_needs_libraries_of_arrays_and_pictures_alone(path: Path) -> None:
    """Supervision is imported for who has it."""
    libraries = {name.split(".")[0] for name in imports(path)} - {"tasks"}
    assert libraries <= sys.stdlib_module_names | {"numpy", "cv2", "PIL", "supervision"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("from . import detections", "tasks.vision.detections"),
        ("from .detections import Detections", "tasks.vision.detections"),
        ("from .. import storage", "tasks.storage"),
        ("from ..storage import object_store", "tasks.storage.object_store"),
        ("def f():\n    from tasks import storage", "tasks.storage"),
    ],
)
def test_an_import_is_seen_however_it_is_written(line: str, expected: str) -> None:
    path = ROOT / "tasks" / "vision" / "geometry.py"
    assert expected in imports(path, line)
    assert expected not in imports(path, "")


def assert_no_cycle(arrows: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other in a circle: {' -> '.join(error.args[1])}")


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert_no_cycle(ALLOWED)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert_no_cycle({module: imports(path) & MODULES.keys() for module, path in MODULES.items()})


def test_a_circle_would_be_seen() -> None:
    with pytest.raises(pytest.fail.Exception, match="a -> "):
        assert_no_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


@pytest.mark.parametrize("path", files("deployments"), ids=str)
def test_the_pull_step_needs_the_standard_library_alone(path: Path) -> None:
    """It runs before the checkout is entered in which the rest of our code lies."""
    assert {name.split(".")[0] for name in imports(path)} <= sys.stdlib_module_names


def test_tests_lie_where_the_tested_code_lies() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in files("tests/tasks", "**/test_*.py")}
    assert [folder for folder in sorted(folders) if not (ROOT / folder).is_dir()] == []


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
    assert not {name.split(".")[0] for name in imports(path)} & ({"tasks", *OUTSIDE} - {"model_repository"})


@pytest.mark.parametrize("path", [path for path in files("model_repository") if path.is_symlink()], ids=str)
def test_what_batch_and_live_inference_share_needs_nothing_but_its_neighbours(path: Path) -> None:
    """Triton's environment has its own versions of NumPy, OpenCV and Pillow, and no other library."""
    own = {name for name in imports(path) if name.startswith(f"{module_of(path.parent)}.")}
    assert all((path.parent / f"{name.split('.')[2]}.py").exists() for name in own)
    others = {name.split(".")[0] for name in imports(path) - own}
    assert others <= sys.stdlib_module_names | {"numpy", "cv2", "PIL"}


LOADERS = {ROOT / "tasks" / "weights" / "loader.py", ROOT / "tasks" / "tracking" / "pyfunc_model.py"}
PICKLES = re.compile(
    r"\bYOLO\(|\b(torch|joblib|dill|pickle|cloudpickle|marshal|shelve)\.|read_pickle|load_checkpoint|torch_load|"
    r"torch_safe_load|pyfunc\.load|allow_pickle=True|torch_utils\.strip_optimizer"
)
PRODUCT_FOLDERS = ("tasks", "flows", "infra", "model_repository", "deployments", "studio")
PRODUCT = [path for folder in PRODUCT_FOLDERS for path in files(folder)]


def test_pickles_are_opened_in_one_place() -> None:
    """Loading one may run code: the code that refuses it is the only code that loads any."""
    found = {path: {match[0] for match in PICKLES.finditer(path.read_text())} - {"torch."} for path in PRODUCT}
    assert {path: names for path, names in found.items() if names and path not in LOADERS} == {}
    assert [path for path in PRODUCT if "torch.load" in path.read_text()] == []
