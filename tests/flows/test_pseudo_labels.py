"""A model that has learnt wrong labels of another model is not promoted, and nobody can have it measured on these."""

import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import boto3
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from infra import demo_data
from infra.demo_data import ArchivePlan
from tasks.dataset.label_origins import LABEL_ORIGINS, pack_label_origins
from tasks.orchestration import deployed_flows
from tests.emitted import emitted, events
from tests.flows.pipelines import children, title
from tests.flows.steps import champion, served
from tests.tasks.validation.sound import by_model

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

CLASSES = ("circle", "square")
OTHER = {"circle": "square", "square": "circle"}
TRAIN, WRONG = 32, 64
STEPS = 1920  # images that each training sees
TRAINING = {"imgsz": 128, "batch": 8, "patience": 0, "rehearse": False}


def store(path: Path) -> str:
    boto3.client("s3").upload_file(str(path), "datasets", path.name)
    return path.name


def by_people(folder: Path, name: str, train: int, val: int, seed: int) -> str:
    return store(
        demo_data.write_archive(ArchivePlan(name=name, classes=CLASSES, train=train, val=val, seed=seed), folder)
    )


def by_a_wrong_model(folder: Path, name: str, split: str = "train", *, is_right: bool = False) -> str:
    """An archive in which a model has labelled every circle as a square, and every square as a circle."""
    rng, path, images = np.random.default_rng(9), folder / name, []
    with zipfile.ZipFile(path, "w") as archive:
        names = {split: f"images/{split}", "train": "images/train", "names": list(CLASSES)}
        archive.writestr("data.yaml", yaml.safe_dump(names, sort_keys=False))
        for number in range(WRONG):
            jpeg, shapes = demo_data.draw_image(rng, CLASSES)
            told = [(name if is_right else OTHER[name], x, y, r) for name, x, y, r in shapes]
            where = split if number % 4 == 0 else "train"
            images.append(f"images/{where}/{number:04d}.jpg")
            archive.writestr(images[-1], jpeg)
            archive.writestr(f"labels/{where}/{number:04d}.txt", demo_data.label_text(told, CLASSES))
        archive.writestr(LABEL_ORIGINS, pack_label_origins(by_model(image, row=None) for image in images))
    return store(path)


def pipeline(name: str, archives: list[str], epochs: int, **promotion: Any) -> tuple[UUID, State]:
    parameters = {
        "model_name": name,
        "archives": archives,
        "base_model": "yolo11n.yaml",
        "training": {**TRAINING, "epochs": epochs},
        "promotion": promotion,
        "serving": {"parity": None, "drain_s": 0},
    }
    run = deployed_flows.start("run-pipeline", parameters)
    return run, deployed_flows.wait(run, 420)


def test_a_version_that_wrong_labels_of_a_model_have_made_worse_is_not_promoted(stack: object, tmp_path: Path) -> None:  # noqa: ARG001
    name = f"pseudo-{uuid4().hex[:8]}"
    people = by_people(tmp_path, f"{name}-people.zip", TRAIN, 16, seed=1)
    gold = by_people(tmp_path, f"{name}-gold.zip", 1, 31, seed=2)
    _, state = pipeline(name, [people], STEPS // TRAIN, min_map50=0.2, gold=gold)
    assert (state.name, champion(name)) == ("Completed", "1"), state

    wrong = by_a_wrong_model(tmp_path, f"{name}-labelled.zip")
    run, state = pipeline(name, ["champion+", wrong], STEPS // (TRAIN + WRONG), gold=gold)
    assert state.name == "Not better", state
    assert {title(each) for each in children(run)} & {f"train {name}", f"deploy {name} version 2"} == {f"train {name}"}
    assert (champion(name), served(name)) == ("1", [1])
    refused = emitted("model.refused", f"version:{name}/2")["payload"]
    assert refused["refused_by"] == "comparison"
    assert not events("model.promoted", f"version:{name}/2")
    assert "challenger" not in MlflowClient().get_registered_model(name).aliases

    scores = MlflowClient().get_run(str(MlflowClient().get_model_version(name, "2").run_id)).data.metrics
    print({key: round(value, 3) for key, value in scores.items() if key.startswith("promotion/")})
    for data in ("validation", "gold"):
        assert scores[f"promotion/{data}/challenger"] < scores[f"promotion/{data}/champion"]


def test_labels_of_a_model_are_refused_as_what_is_measured_on(stack: object, tmp_path: Path) -> None:  # noqa: ARG001
    """As gold they stop the training before it begins; in val, the check of their archive."""
    name = f"pseudo-{uuid4().hex[:8]}"
    people = by_people(tmp_path, f"{name}-people.zip", 16, 8, seed=3)
    labelled = by_a_wrong_model(tmp_path, f"{name}-labelled.zip", is_right=True)
    _, state = pipeline(name, [people], 1, gold=labelled)
    assert state.is_failed()
    assert f"{WRONG} of '{labelled}' that a model has labelled" in str(state.message)
    measured = by_a_wrong_model(tmp_path, f"{name}-measured.zip", "val", is_right=True)
    _, state = pipeline(name, [people, measured], 1)
    assert state.is_failed()
    assert f"valid archives, found an archive that is not: {measured}" in str(state.message)
    assert not MlflowClient().search_model_versions(f"name = '{name}'")
