"""Images that are labelled for some of the classes: what a training learns of them, mixes, and counts."""

import random
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ultralytics.models import RTDETR
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import DEFAULT_CFG

from tasks.merge.vocabularies import Vocabularies, read_vocabularies
from tasks.merge.written_files import list_images
from tasks.training.trainer import worst_predictions
from tasks.training.trainer.partial_labels import (
    PartialLabelsError,
    choose_trainer,
    choose_validator,
    mask_loss,
    masked_validator,
)
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.training.trainer.worst_predictions import Mistakes, draw_worst
from tests.tasks.merge.archives import dataset, merge, picture, row

FAMILIES = ("yolo11n", "yolo26n")
SUFFIXES = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb"}
CASES = [(family, task) for family in FAMILIES for task in SUFFIXES]
SIZE = 64
KNOWN = [frozenset({0}), frozenset({1, 2})]
FILES = (("images", "jpg", picture), ("labels", "txt", lambda at: row(at % 2, at)))


def class_scores(preds: Any) -> list[torch.Tensor]:
    """What a head says of each class: [images, classes, ...], of the semantic part of masks as well."""
    parts = [preds["one2many"], preds["one2one"]] if "one2many" in preds else [preds]
    semantic = [part["proto"][1] for part in parts if isinstance(part.get("proto"), tuple)]
    return [scores for scores in [*(part["scores"] for part in parts), *semantic] if scores.requires_grad]


def labelled_batch(task: str) -> dict[str, torch.Tensor]:
    """Two images with an object each, of a class that is known there."""
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]] * 2)
    batch: dict[str, torch.Tensor] = {"batch_idx": torch.arange(2.0), "cls": torch.tensor([[0.0], [1.0]])}
    batch["bboxes"] = torch.cat((boxes, torch.zeros(2, 1)), 1) if task == "obb" else boxes
    masks = torch.zeros(2, SIZE // 4, SIZE // 4)
    masks[:, 4:12, 4:12] = 1
    return {
        **batch,
        "masks": masks,
        "sem_masks": torch.stack((masks[0] * 0, masks[1])),
        "keypoints": torch.rand(2, 17, 3),
    }


@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_class_that_is_unknown_in_an_image_teaches_nothing(family: str, task: str) -> None:
    model = load_model(f"{family}{SUFFIXES[task]}.yaml", task).model
    model.args = DEFAULT_CFG
    preds = model.train()(torch.rand(2, 3, SIZE, SIZE))
    scores = class_scores(preds)
    classes = scores[0].shape[1]
    criterion = model.init_criterion()

    def gradients() -> list[torch.Tensor]:
        loss = criterion(preds, labelled_batch(task))[0].sum()
        return [part.abs().flatten(2).sum(2) for part in torch.autograd.grad(loss, scores, retain_graph=True)]

    assert all((part > 0).all() for part in gradients())
    for known in (KNOWN, KNOWN[::-1], KNOWN):
        mask_loss(criterion, known, classes)
        for part in gradients():
            taught = [frozenset(row.nonzero().flatten().tolist()) for row in part]
            assert taught == known


def test_only_images_that_know_the_same_classes_are_mixed(tmp_path: Path) -> None:
    """Also if one vocabulary is so rare that its images are never in memory together."""
    more = {f"{kind}/train/{at}.{end}": make(at) for at in range(4, 20) for kind, end, make in FILES}
    rare = {entry: content for entry, content in dataset(20, "bird, ox").items() if not re.search("train/[23]", entry)}
    _, written = merge(tmp_path, dataset(100, "cat, dog", changes=more), rare)
    model = load_model("yolo11n.yaml", "detect")
    make_trainer = choose_trainer(model, written.data)
    assert make_trainer is not None
    arguments = {"data": str(written.data), "imgsz": SIZE, "mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5, "workers": 0}
    trainer = make_trainer(
        overrides={**arguments, "model": "yolo11n.yaml", "device": "cpu", "save_dir": str(tmp_path / "out")}
    )
    trainer.model = model.model
    images = trainer.build_dataset(str(written.data.parent / "images" / "train"), batch=1)  # 8 are kept in memory
    vocabularies = read_vocabularies(written.data)
    assert vocabularies is not None
    mixed: Counter[frozenset[int]] = Counter()
    random.seed(0)
    for number in [*range(10), 20, *range(10, 20), 21] * 4:
        shown = images[number]
        found = set(shown["cls"].flatten().int().tolist())
        known = vocabularies.of_image(Path(shown["im_file"]))
        assert found <= known
        mixed[known] += len(found) > 1
    assert all(mixed[each] for each in vocabularies.archives)


def test_what_is_found_of_an_unknown_class_is_not_counted() -> None:
    counted: list[dict[str, torch.Tensor]] = []

    class Recorder:
        def update_metrics(self, preds: list[dict[str, torch.Tensor]], _: object) -> None:
            counted.extend(preds)

    validator = masked_validator(Recorder, Vocabularies((frozenset({0}), frozenset({0, 1})), {}))()
    found = {"cls": torch.tensor([0.0, 1.0]), "conf": torch.tensor([0.9, 0.8])}
    validator.update_metrics([found, found], {"im_file": ["/d/val/00-000000-x.jpg", "/d/val/01-000000-x.jpg"]})
    assert [part["conf"].tolist() for part in counted] == [pytest.approx([0.9]), pytest.approx([0.9, 0.8])]


def test_pictures_of_mistakes_show_no_unknown_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, written = merge(tmp_path, dataset(0, "cat, dog"), dataset(20, "bird, ox"))

    def predict(_: str, **options: Any) -> None:
        raise InterruptedError(options["classes"])

    monkeypatch.setattr(
        worst_predictions, "load_model", lambda *_: SimpleNamespace(model=SimpleNamespace(names={}), predict=predict)
    )
    images = SimpleNamespace(dataset=SimpleNamespace(im_files=list_images(written.data, "detect", "val")))
    validator = SimpleNamespace(args=SimpleNamespace(data=str(written.data), imgsz=SIZE), dataloader=images)
    for number, known in enumerate(([0, 1], [0, 1], [2, 3])):
        with pytest.raises(InterruptedError, match=re.escape(str(known))):
            draw_worst([Mistakes(number, 1, 0, sure=0)], validator, Path("best.pt"), ("detect", "cpu"), tmp_path)


def test_complete_images_are_for_ultralytics_alone(tmp_path: Path) -> None:
    _, written = merge(tmp_path, dataset(0, "cat, dog"))
    model = load_model("yolo11n.yaml", "detect")
    assert choose_trainer(model, written.data) is None
    assert choose_validator(model, written.data) is None


def test_a_model_that_cannot_leave_out_a_class_is_refused(tmp_path: Path) -> None:
    _, written = merge(tmp_path, dataset(0, "cat, dog"), dataset(20, "bird, ox"))
    with pytest.raises(PartialLabelsError, match=r"found a RTDETR .* merge.partial_labels to warn"):
        choose_trainer(RTDETR("rtdetr-l.yaml"), written.data)


@pytest.mark.slow
@pytest.mark.parametrize("task", SUFFIXES)
def test_a_training_of_each_task_masks_all_its_batches(task: str, tmp_path: Path) -> None:
    """Mosaic, mixup and the rest run, the best weights are measured, and hold nothing of the mask."""
    _, written = merge(tmp_path, *(dataset(*each, task=task) for each in ((0, "cat, dog"), (20, "bird, ox"))))
    model = load_model(f"yolo26n{SUFFIXES[task]}.yaml", task)
    taught: list[torch.Tensor] = []
    model.add_callback(
        "on_train_batch_end", lambda trainer: taught.append(trainer.model.criterion.one2many.class_weights)
    )
    augmented = {"mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "epochs": 1, "close_mosaic": 0}
    where = {"data": str(written.data), "save_dir": str(tmp_path / "out"), "device": "cpu", "workers": 0}
    model.train(choose_trainer(model, written.data), imgsz=SIZE, batch=4, plots=False, **augmented, **where)
    assert [set(mask.sum(-1).flatten().tolist()) for mask in taught] == [{2.0}] * 2
    best = load_model(str(tmp_path / "out" / "weights" / "best.pt"), task)
    assert type(best.model).__module__ == "ultralytics.nn.tasks"
    assert best.model.criterion is None


def test_the_validator_is_that_of_the_task(tmp_path: Path) -> None:
    _, written = merge(tmp_path, dataset(0, "cat, dog"), dataset(20, "bird, ox"))
    chosen = choose_validator(load_model("yolo11n.yaml", "detect"), written.data)
    assert chosen is not None
    assert issubclass(chosen, DetectionValidator)
