"""How a champion was trained, by what MLflow has kept of it."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from tasks.parameters import MergePolicy, TrainingParams
from tasks.tracking import registered_models, registry
from tasks.tracking.lineage import PLAN_ARTIFACT, POLICIES_ARTIFACT
from tasks.tracking.trained_versions import ChampionTraining, find_champion_training
from tests.tasks.training.trained import LINEAGE, opened, trained

pytestmark = pytest.mark.usefixtures("stack")
TRAINING = TrainingParams.model_validate({"epochs": 7, "imgsz": 192, "overrides": {"mosaic": 0.5}})


def champion(
    weights: Path, tags: dict[str, str], policies: dict[str, object] | None, plan: dict[str, object] | None = None
) -> str:
    """The name of a model whose champion has these tags, and whose run has kept these policies and this plan."""
    name, flow_run_id = f"model-{uuid4().hex[:8]}", str(uuid4())
    run, model = opened(flow_run_id), trained(weights.parent, weights)
    registry.register_version.fn(name, run, model, 192, {**LINEAGE, **tags, "flow_run_id": flow_run_id}, "")
    MlflowClient().set_model_version_tag(name, "1", "class_names", json.dumps(["cat", "dog"]))
    if policies is not None:
        MlflowClient().log_dict(run, policies, POLICIES_ARTIFACT)
    if plan is not None:
        MlflowClient().log_dict(run, plan, PLAN_ARTIFACT)
    assert find_champion_training.fn(name) is None
    registry.set_alias.fn(name, registered_models.CHAMPION, 1)
    return name


def found_for(name: str) -> ChampionTraining:
    found: ChampionTraining | None = find_champion_training.fn(name)
    assert found is not None
    return found


def test_a_champion_tells_what_it_was_trained_from_and_how(untrained: Path) -> None:
    merge = MergePolicy.model_validate({"classes": {"cat": "animal"}, "partial_labels": "warn"})
    found = found_for(champion(untrained, {}, {"training": TRAINING.model_dump(), "merge": merge.model_dump()}))
    assert (found.base_model, found.training, found.merge, found.guessed) == ("yolo11n.yaml", TRAINING, merge, "")


def test_archives_of_a_champion_are_merged_again_by_what_each_of_them_calls_its_classes(untrained: Path) -> None:
    """They swapped two names: what the champion has labelled since must not be swapped again."""
    merge = MergePolicy.model_validate({"classes": {"cat": "dog", "dog": "cat"}})
    plan: dict[str, object] = {"archive_class_names": {"a.zip": ["cat", "dog"], "b.zip": ["cat"]}}
    found = found_for(champion(untrained, {}, {"training": TRAINING.model_dump(), "merge": merge.model_dump()}, plan))
    again = found.merge_again({"a.zip": ["cat", "dog"], "loops/m/1-reviewed.zip": ["cat", "dog"]})
    assert again.classes == {"cat": "cat", "dog": "dog", "a.zip:cat": "dog", "a.zip:dog": "cat"}


@pytest.mark.parametrize("policies", [None, {}, {"training": {"of_another_release": 1}}])
def test_of_a_training_that_is_not_kept_the_image_size_and_the_base_model_are_known(
    untrained: Path, policies: dict[str, object] | None
) -> None:
    found = found_for(champion(untrained, {}, policies))
    assert (found.base_model, found.training) == ("yolo11n.yaml", TrainingParams.model_validate({"imgsz": 192}))
    assert "nobody has kept how" in found.guessed


def test_a_champion_that_was_registered_from_weights_is_trained_on_from_them(untrained: Path) -> None:
    """The file in bucket base-models may be another by now, or gone; the version has the weights."""
    name = champion(untrained, {"lineage": "imported", "base_model": "old.pt"}, None)
    found = found_for(name)
    assert (found.base_model, found.training.imgsz) == (f"models:/{name}/1", 192)
    assert found.guessed
