"""The whole chain on a few images, for every task: merge, train, evaluate, export, compare."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from tasks.errors import ExportError
from tasks.export.steps import export_onnx
from tasks.merge import steps as merge_steps
from tasks.parameters import TrainingParams
from tasks.training import steps as training_steps
from tasks.training.attempts import TrainingError
from tasks.training.base_models import FAMILIES, task_of
from tasks.training.job import EvaluationTarget
from tasks.vision.metrics import PRIMARY_METRIC
from tests.tasks.merge.archives import dataset, merge, tree

CPU = TrainingParams(device="cpu")
MODELS = [example for family in FAMILIES for example in family.examples]


@pytest.fixture(autouse=True)
def _no_run() -> Iterator[None]:
    with disable_run_logger():
        yield


def merged(folder: Path, task: str) -> merge_steps.MergedDataset:
    """Two archives that name the same classes in another order."""
    if task == "classify":
        return merge(folder, tree(0), tree(6, ("dog", "cat")))[1]
    return merge(folder, dataset(0, task=task), dataset(6, "dog, cat", task))[1]


@pytest.mark.heavy
@pytest.mark.parametrize("model_name", MODELS)
def test_every_model_goes_through_the_whole_chain(tmp_path: Path, model_name: str) -> None:
    """All that docs/training.md says can be trained and exported."""
    task = task_of(model_name)
    whole = merged(tmp_path, task)
    few = merge_steps.write_smoke_test_subset.fn(whole, tmp_path / "few")
    job = training_steps.training_job(few, task, f"{model_name}.yaml", CPU, tmp_path / "rehearsal")
    model = training_steps.run_smoke_test.fn(job, CPU)
    assert (model.task, model.class_names, model.epochs) == (task, ("cat", "dog"), 1)
    assert PRIMARY_METRIC[task] in model.scores.metrics
    assert model.scores.images > 0
    assert set(model.scores.by_class) == {"cat", "dog"}
    assert export_onnx.fn(model.weights, job.folder / "export", training_steps.SMOKE_TEST_IMAGE_SIZE).is_file()

    view = merge_steps.write_relabelled_split.fn(whole.data, task, whole.class_names, ("dog", "cat"), tmp_path / "view")
    own, other = training_steps.evaluate.fn(
        [
            EvaluationTarget(weights=model.weights, data=whole.data, image_size=64),
            EvaluationTarget(weights=model.weights, data=view, image_size=64),
        ],
        task,
        CPU,
        tmp_path,
    )
    assert own.images == other.images == whole.images["val"]
    assert set(own.classes) == {"cat", "dog"}


@pytest.mark.slow
def test_what_would_fail_later_fails_in_the_rehearsal(tmp_path: Path) -> None:
    few = merge_steps.write_smoke_test_subset.fn(merged(tmp_path, "detect"), tmp_path / "few")
    job = training_steps.training_job(few, "detect", "yolo11n-seg.yaml", CPU, tmp_path / "rehearsal")
    with pytest.raises(TrainingError, match=r"The rehearsal on a few images failed.*for the task 'detect'"):
        training_steps.run_smoke_test.fn(job, CPU)


@pytest.mark.slow
def test_weights_that_cannot_be_exported_are_found(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no pickle")
    with pytest.raises(ExportError, match="Ultralytics can load"):
        export_onnx.fn(tmp_path / "weights.pt", tmp_path, 64)
