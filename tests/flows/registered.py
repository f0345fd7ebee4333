"""Registered versions that find things, with the validation sample that a training keeps."""

import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import torch
import yaml
from mlflow import MlflowClient

from infra.demo_data import CLASSES, draw_image
from tasks.merge.pack_sample import pack_sample
from tasks.merge.steps import SAMPLE
from tasks.merge.training_images import TRAINING_IMAGES, TrainingImages, pack_training_images
from tasks.parameters import TrainingParams
from tasks.tracking import registered_models, registry, runs
from tasks.vision.geometry import Letterbox
from tests.tasks.export.finders import finder
from tests.tasks.training.trained import opened, trained

SIZE = 96
IMAGES = 12


def make_weights(folder: Path, architecture: str = "yolo11n") -> Path:
    """Weights that find much on drawn shapes without having learned any."""
    shown = [Letterbox.fit(image.shape[1], image.shape[0], SIZE).apply(image) for image in pictures(8)]
    return finder(folder, architecture, shown, len(CLASSES))


def make_foreign_weights(folder: Path) -> bytes:
    """The same as a training elsewhere leaves them: with names of their classes and their image size."""
    content: dict[str, Any] = torch.load(make_weights(folder), weights_only=False)
    content["model"].names = dict(enumerate(CLASSES))
    path = folder / "foreign.pt"
    torch.save(content | {"train_args": {"imgsz": SIZE}}, path)
    return path.read_bytes()


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.asarray(cv2.imdecode(np.frombuffer(draw_image(rng, CLASSES)[0], np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
        for _ in range(count)
    ]


def make_sample(folder: Path) -> Path:
    """What a detection training keeps of its validation split."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number in range(IMAGES):
        (folder / "images" / "val" / f"{number:02d}.jpg").write_bytes(draw_image(rng, CLASSES)[0])
        (folder / "labels" / "val" / f"{number:02d}.txt").write_text("1 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text(yaml.safe_dump({}))
    pack_sample(folder / "data.yaml", "detect", CLASSES, folder / SAMPLE, IMAGES)
    return folder / SAMPLE


def register(name: str, weights: Path, sample: Path | None) -> int:
    """Register weights as a training does; returns the number of the version, which is the challenger then."""
    flow_run_id = str(uuid4())
    run_id = opened(flow_run_id)
    if sample:
        runs.log_artifact.fn(run_id, sample)
    model = trained(weights.parent, weights, classes=CLASSES)
    version: int = registry.register_version.fn(name, run_id, model, SIZE, {"flow_run_id": flow_run_id}, "")
    registry.tag_version.fn(name, version, {"class_names": str(list(CLASSES)).replace("'", '"')})
    registry.set_alias.fn(name, registered_models.CHALLENGER, version)
    return version


def mark_trained(name: str, archive: Path, training: TrainingParams) -> None:
    """Let version 1 be one that was trained on the images of an archive, from an architecture."""
    mlflow = MlflowClient()
    mlflow.set_model_version_tag(name, "1", "base_model", "yolo11n.yaml")
    run = str(mlflow.get_model_version(name, "1").run_id)
    mlflow.log_dict(run, {"training": training.model_dump()}, "policies.json")
    with zipfile.ZipFile(archive) as file:
        entries = [each for each in file.infolist() if each.filename.endswith(".jpg")]
    kept = archive.with_name(TRAINING_IMAGES)
    kept.write_bytes(
        pack_training_images(TrainingImages(train=frozenset((each.CRC, each.file_size) for each in entries)))
    )
    mlflow.log_artifact(run, str(kept))
