"""What weights say of themselves is read by a process that has no key and that they cannot keep."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.weights import steps
from tasks.weights.description import MAX_BYTES, WeightsDescription, describe_model, read_description
from tasks.weights.loader import WeightsError
from tests.tasks.weights.hostile import checkpoint, kinds, saved, sound, with_attributes

SAID: dict[str, Any] = {"task": "detect", "class_names": ["cat", "dog"], "outputs": 2, "image_size": 64}


@pytest.mark.slow
def test_a_process_reads_task_classes_and_image_size(tmp_path: Path) -> None:
    (tmp_path / "old.pt").write_bytes(saved(checkpoint(train_args={"imgsz": [100, 90]})))
    names = tuple(str(sound().names[number]) for number in range(80))
    described = steps.describe_weights.fn(tmp_path / "old.pt")
    assert described == WeightsDescription(task="detect", class_names=names, image_size=128)


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["nothing", "time"])
def test_hostile_weights_run_nothing_and_end(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if limit == "time":
        monkeypatch.setattr(steps, "LONGEST_S", 0.1)
    mark = tmp_path / "mark"
    (tmp_path / "evil.pt").write_bytes(kinds(mark)["zip"])
    with pytest.raises(WeightsError, match="found no end" if limit == "time" else "found 'evil.pt', which asks for"):
        steps.describe_weights.fn(tmp_path / "evil.pt")
    assert not mark.exists()


def odd(folder: Path, **content: object) -> str:
    path = folder / "odd.pt"
    path.write_bytes(saved(checkpoint(**content)))
    return str(path)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"stride": None}, r"whose stride, number of classes and `train_args` are as .* found AttributeError"),
        ({"stride": torch.tensor([float("inf")])}, "found OverflowError"),
        ({"yaml": None}, "found 'odd.pt', which is damaged"),
        ({"yaml": {"channels": "3"}}, "3 channels, found '3'"),
    ],
)
def test_attributes_of_other_types_are_refused(attributes: dict[str, object], expected: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=expected):
        describe_model(odd(tmp_path, model=with_attributes(**attributes)))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = deepcopy(sound())
    model.model[0].conv.weight.data[0] = float("nan")
    with pytest.raises(WeightsError, match=r"finite numbers, found NaN or infinity in 'model.0.conv.weight'"):
        describe_model(odd(tmp_path, model=model))


def test_numbers_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    model = deepcopy(sound())
    model.model[0].conv.weight = torch.nn.Parameter(torch.zeros(1).expand(16, 3, 30_000, 30_000))
    with pytest.raises(WeightsError, match=r"each of their numbers, found 432\d{8} numbers in a file of \d{8} bytes"):
        describe_model(odd(tmp_path, model=model))


def test_a_size_that_is_no_number_is_not_taken(tmp_path: Path) -> None:
    assert describe_model(odd(tmp_path, train_args={"imgsz": True}))["image_size"] == 640


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"class_names": ["cat"]}, "found 1 names for 2 classes"),
        ({"class_names": [], "outputs": 0}, "found 0 names"),
        (
            {"class_names": ["cat", "cat"]},
            "different, printable names of classes, of at most 200 characters, found 'cat'",
        ),
        ({"class_names": ["cat", "x" * 201]}, "found 'xxx"),
        ({"class_names": ["cat", "a\nb"]}, r"found 'a\\nb'"),
        ({"class_names": ["cat", " "]}, "found ' '"),
        ({"image_size": 8192}, "at most 4096 pixels, found 8192"),
        ({"task": "x" * MAX_BYTES}, "found a longer one"),
    ],
)
def test_weights_of_which_no_version_can_be_made_are_refused(
    said: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "answer.json").write_text(json.dumps(SAID | said))
    with pytest.raises(WeightsError, match=expected):
        read_description(tmp_path / "answer.json")
