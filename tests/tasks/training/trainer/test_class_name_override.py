"""Classes keep the names that the merge gave them: in data.yaml, in weights, in scores, from one training to the next.

Ultralytics calls the synset n01440764 a tench wherever it is asked, if the first class is called so.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.logging import disable_run_logger

from tasks.export.steps import export_onnx
from tasks.merge import steps as merge_steps
from tasks.merge.yolo_writer import write_data_yaml
from tasks.parameters import PromotionPolicy, TrainingParams
from tasks.promotion.rules import VALIDATION, EvaluatedVersion, decide
from tasks.training import steps as training_steps
from tasks.training.events import TrainedModel
from tasks.training.job import EvaluationTarget
from tasks.training.trainer.class_name_override import read_class_names
from tasks.training.trainer.ultralytics_setup import load_model
from tests.tasks.merge.archives import dataset, merge, tree

SYNSETS = ("n01440764", "n01443537")
CPU = TrainingParams(epochs=1, imgsz=64, batch=4, device="cpu")
NO_NAMES = [
    "no",
    "on",
    "1e3",
    "null",
    "~",
    "2024-01-01",
    "0x1F",
    "1_0",
    "a: b",
    "{x}",
    "'",
    '"',
    " #x",
    "None",
    "=",
    "<<",
]
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip)
numbers = itertools.count()


@pytest.fixture(autouse=True)
def _no_run() -> Iterator[None]:
    with disable_run_logger():
        yield


@pytest.mark.parametrize("task", ["detect", "classify"])
@settings(deadline=None)
@given(names=st.lists(st.one_of(NAMES, st.sampled_from(NO_NAMES)), min_size=1, max_size=12, unique=True))
def test_names_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, task: str, names: list[str]
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"named-{next(numbers)}"
    folder.mkdir()
    assert read_class_names(write_data_yaml(folder, task, names, {"train": "train", "val": "val"}, {})) == tuple(names)


def trained(
    folder: Path, task: str, names: tuple[str, str], model: str
) -> tuple[merge_steps.MergedDataset, TrainedModel]:
    """One epoch on an archive that names these classes; of a tree their order is that of the alphabet."""
    folder.mkdir()
    whole = merge(folder, tree(0, names) if task == "classify" else dataset(0, ", ".join(names)))[1]
    job = training_steps.training_job(whole.data, task, model, CPU, folder / "training")
    return whole, training_steps.train.fn(job, Nowhere(), [])


class Nowhere:
    """Keeps no checkpoint."""

    def keep(self, epoch: object) -> None:
        """Let it go."""

    def restore(self, folder: Path) -> None:
        """Find none."""


@pytest.mark.parametrize("kind", [dict, OrderedDict, list])
def test_no_file_can_tell_ultralytics_to_leave_its_names_alone(kind: Callable[[Any], Any]) -> None:
    """If this fails, it can: then mend what docs/training.md says of `YOLO("best.pt").names`."""
    from ultralytics.nn.autobackend import check_class_names

    held = kind(SYNSETS if kind is list else enumerate(SYNSETS))
    assert check_class_names(held) == {0: "tench", 1: "goldfish"}


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["detect", "classify"])
def test_synsets_are_trained_and_trained_again_and_compared(tmp_path: Path, task: str) -> None:
    """The later training begins from the earlier weights; a detector knows the classes in another order then."""
    suffix, later = ("-cls", SYNSETS) if task == "classify" else ("", SYNSETS[::-1])
    _, champion = trained(tmp_path / "first", task, SYNSETS, f"yolo11n{suffix}.yaml")
    whole, challenger = trained(tmp_path / "second", task, later, str(champion.weights))
    for model, names in ((champion, SYNSETS), (challenger, later)):
        assert model.class_names == names
        loaded = load_model(str(model.weights), task)
        assert loaded.model.names == dict(enumerate(names))
        assert set(loaded.names.values()) == {"tench", "goldfish"}  # as docs/training.md says
        assert set(model.scores.classes) == set(SYNSETS)

    graph = onnx.load(export_onnx.fn(champion.weights, tmp_path / "export", 64))
    assert not any("tench" in entry.value for entry in graph.metadata_props)

    contenders = []
    for number, model in enumerate((champion, challenger), 1):
        known = whole.class_names, model.class_names
        view = merge_steps.write_relabelled_split.fn(whole.data, task, *known, tmp_path / f"view-{number}")
        (tmp_path / f"scoring-{number}").mkdir()
        (scores,) = training_steps.evaluate.fn(
            [EvaluationTarget(weights=model.weights, data=view, image_size=64)],
            task,
            CPU,
            tmp_path / f"scoring-{number}",
        )
        assert set(scores.classes) == set(SYNSETS)
        contenders.append(
            EvaluatedVersion(version=number, task=task, class_names=model.class_names, scores={VALIDATION: scores})
        )
    decision = decide(contenders[1], contenders[0], PromotionPolicy())
    (mean,) = decision.means
    assert mean.classes == 2
    assert {row.name for row in decision.rows} == set(SYNSETS)
