"""How often images are seen whose labels a model has made, and with which they are mixed."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset.label_origins import LABEL_ORIGINS, pack_label_origins
from tasks.merge.pseudo_labelled_file import PseudoLabelled, read_pseudo_labelled, write_pseudo_labelled
from tasks.merge.steps import MergedDataset
from tasks.training.trainer.partial_labels import choose_trainer
from tasks.training.trainer.pseudo_weight import PseudoWeightError, kept_share, weigh_images, weigh_pseudo_labels
from tasks.training.trainer.ultralytics_setup import load_model
from tests.tasks.merge.archives import Entries, built, dataset, merge, picture, row, tree
from tests.tasks.validation.sound import by_model

SIZE = 64
NAMES = "cat, dog, bird, ox"


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(0, 1))
def test_an_image_of_a_model_is_seen_so_much_more_rarely_and_an_epoch_stays_as_long(
    drawn: int, made: int, weight: float
) -> None:
    kept = kept_share(drawn, made, weight)
    assert 0 <= kept <= 1 + 1e-9
    of_person = 1 + (1 - kept) * made / drawn
    assert kept == pytest.approx(weight * of_person)
    assert kept * made + of_person * drawn == pytest.approx(drawn + made)


def labelled(folder: Path, *, names: str = NAMES, task: str = "detect") -> MergedDataset:
    """Four images of a person, with cats and dogs, and twelve of a model, with birds and oxen."""
    made: Entries = {"data.yaml": f"train: images/train\nnames: [{names}]\n"}
    for at in range(12):
        made |= {f"images/train/{at}.jpg": picture(50 + at), f"labels/train/{at}.txt": row(2 + at % 2, 50 + at)}
    drawn = dataset(1, NAMES)
    if task == "classify":
        drawn, made = tree(1), {f"train/cat/{at}.jpg": picture(50 + at) for at in range(12)}
    origins = [by_model(name, row=None) for name in made if name.endswith(".jpg")]
    return merge(folder, drawn, made | {LABEL_ORIGINS: pack_label_origins(origins)})[1]


def make_dataset(written: MergedDataset, weight: float, **arguments: Any) -> Any:
    """The images of a training, as the trainer builds them."""
    model = load_model("yolo11n.yaml", "detect")
    trainer_class = weigh_pseudo_labels(model, choose_trainer(model, written.data), written.data, weight)
    assert trainer_class is not None
    options = {"data": str(written.data), "imgsz": SIZE, "mosaic": 1.0, "mixup": 0.5, "cutmix": 0.5, "workers": 0}
    options |= {"model": "yolo11n.yaml", "device": "cpu", "save_dir": str(written.data.parent / "out")}
    trainer = trainer_class(overrides=options | arguments)
    trainer.model = model.model
    return trainer.build_dataset(str(written.data.parent / "images" / "train"), batch=1)


@pytest.mark.parametrize(("weight", "names"), [(0.0, NAMES), (0.5, f"{NAMES}, emu"), (0.5, NAMES)])
def test_images_are_seen_by_weight_and_mixed_with_their_kind(tmp_path: Path, weight: float, names: str) -> None:
    """Also beside archives that label other classes, whose images are not mixed either."""
    written = labelled(tmp_path, names=names)
    images = make_dataset(written, weight)
    known = read_pseudo_labelled(written.data)
    seen: Counter[bool] = Counter()
    mixed: Counter[bool] = Counter()
    random.seed(0)
    for number in [*range(len(images))] * 20:
        shown = images[number]
        made = Path(shown["im_file"]) in known
        classes = set(shown["cls"].flatten().int().tolist())
        assert classes <= ({2, 3} if made else {0, 1})
        seen[made] += 1
        mixed[made] += len(classes) > 1
    each = {made: seen[made] / (12 if made else 4) for made in (True, False)}
    assert each[True] == pytest.approx(weight * each[False], rel=0.25)
    assert mixed[False]
    assert bool(mixed[True]) == (weight > 0)


def test_images_of_a_tree_are_seen_by_weight(tmp_path: Path) -> None:
    written = labelled(tmp_path, task="classify")
    images = built(written.data, "classify", "train")
    weigh_images(images, read_pseudo_labelled(written.data), 0.25)
    random.seed(0)
    read: list[str] = []
    imread = images.imread

    def record(file: str) -> Any:
        read.append(file)
        return imread(file)

    images.imread = record
    for number in [*range(len(images))] * 20:
        images[number]
    made = sum(Path(file).name.startswith("01-") for file in read)
    assert made / 12 == pytest.approx(0.25 * (len(read) - made) / 4, rel=0.25)


def test_ultralytics_is_left_alone_where_nothing_is_weighed(tmp_path: Path) -> None:
    model = load_model("yolo11n.yaml", "detect")
    written = labelled(tmp_path)
    assert weigh_pseudo_labels(model, None, written.data, 1.0) is None
    (written.data.parent / "pseudo-labelled.json").unlink()
    assert weigh_pseudo_labels(model, None, written.data, 0.0) is None


def test_what_cannot_be_weighed_is_refused(tmp_path: Path) -> None:
    written = labelled(tmp_path)
    with pytest.raises(PseudoWeightError, match=r"Leave overrides\.rect out"):
        make_dataset(written, 0.5, rect=True)
    everything = PseudoLabelled(frozenset(f"{at:02d}-{index:06d}" for at in (0, 1) for index in range(12)))
    write_pseudo_labelled(written.data, everything)
    with pytest.raises(PseudoWeightError, match="found labels of a model alone"):
        weigh_pseudo_labels(load_model("yolo11n.yaml", "detect"), None, written.data, 0.0)
