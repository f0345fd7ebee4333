"""What MLflow shows of a training: names that it takes, values that fit."""

import json
import re
from pathlib import Path

import pytest

from tasks.errors import StudioError
from tasks.tracking.lineage import lineage_tags
from tasks.tracking.payloads import (
    MAX_DESCRIPTION,
    MAX_TAG,
    mlflow_metrics,
    run_parameters,
    truncate,
    version_description,
    version_tags,
)
from tasks.training.events import TrainedModel
from tasks.vision.metrics import Scores

LINEAGE = {"archives": json.dumps({"a" * 9000: "0" * 64}), "base_model": "b.pt"}
MLFLOW_TAKES = re.compile(r"[/\w.\- :]{1,250}")


def model(classes: dict[str, dict[str, float]], names: tuple[str, ...] = ()) -> TrainedModel:
    scores = Scores(task="segment", metrics={"mAP50-95_mask": 0.5}, classes=classes, images=7)
    return TrainedModel(
        weights=Path("best.pt"),
        folder=Path(),
        task="segment",
        class_names=names or tuple(classes),
        scores=scores,
        epochs=9,
        best_epoch=4,
        batch=8,
    )


def test_each_class_has_a_metric_under_a_name_that_mlflow_takes() -> None:
    """Names that become the same when they are made safe stay two, also where one looks like the other's second."""
    names = ("red/blue", "red?blue", "red_blue_2", "..", "ü²", "n" * 300, "a (B)")
    found = mlflow_metrics(model({name: {"mAP50_mask": number / 10} for number, name in enumerate(names)}))
    assert [name for name in found if "mAP50_mask" in name] == [
        f"best/mAP50_mask/{safe}"
        for safe in ("red_blue", "red_blue_2", "red_blue_2_2", "_..", "ü²", "n" * 200, "a _B_")
    ]
    assert all(MLFLOW_TAKES.fullmatch(name) for name in found)
    assert (found["epochs"], found["best_epoch"], found["best/mAP50-95_mask"]) == (9.0, 4.0, 0.5)


def test_parameters_name_the_bytes_that_were_trained_on() -> None:
    found = run_parameters("m", {"epochs": 3}, "yolo11n.pt", {"a.zip": "0123456789", "b.zip": "abcdefghij"})
    assert found == {
        "model_name": "m",
        "epochs": 3,
        "base_model": "yolo11n.pt",
        "archives": "a.zip@01234567, b.zip@abcdefgh",
    }


def test_the_metrics_of_classes_are_whole_while_they_fit() -> None:
    tags = version_tags(model({"a": {"mAP50_mask": 0.55557, "mAP50-95_mask": 0.2}}), 64, {"flow_run_id": "x"})
    assert json.loads(tags["class_metrics"]) == {"a": {"mAP50_mask": 0.5556, "mAP50-95_mask": 0.2}}
    assert (tags["image_size"], tags["flow_run_id"], tags["class_names"]) == ("64", "x", '["a"]')


def test_of_too_many_metrics_the_main_one_stays_and_then_that_of_the_weakest_classes() -> None:
    def kept(count: int) -> dict[str, dict[str, float]]:
        classes = {
            f"{number:05} {'n' * 40}": {"mAP50": 1.0, "mAP50-95_mask": number / count} for number in range(count)
        }
        text = version_tags(model(classes, ("x",)), 64, {})["class_metrics"]
        assert len(text) <= MAX_TAG
        return dict(json.loads(text))

    assert {len(values) for values in kept(1000).values()} == {2}
    some, few = kept(1200), kept(3000)
    assert (len(some), some[f"00000 {'n' * 40}"]) == (1200, {"mAP50-95_mask": 0.0})
    assert 1000 < len(few) < 1300
    assert sorted(few) == [f"{number:05} {'n' * 40}" for number in range(len(few))]


def test_a_description_shows_the_weakest_classes_and_fits() -> None:
    classes = {f"class|{number} {'n' * 100}": {"mAP50-95_mask": 1 - number / 100} for number in range(100)}
    text = version_description(model(classes, (*classes, "unseen")), 64, LINEAGE)
    assert text.startswith("mAP50-95_mask 0.5000 on 7 validation images")
    assert len(text) <= MAX_DESCRIPTION
    assert "| class\\|99 n" in text
    assert "class\\|50 n" not in text
    assert "And 70 classes above these." in text
    assert "Not in validation: unseen." in text
    assert "| base\\_model | b.pt |" in text


def test_a_text_that_is_cut_says_so() -> None:
    assert (truncate("abc", 3), truncate("abcd", 3), truncate(None, 9)) == ("abc", "ab…", "None")


def test_the_lineage_names_the_plan_and_refuses_names_that_no_version_can_carry() -> None:
    tags = lineage_tags({"a.zip": "00"}, ("cat",), "b.pt", "bb", "id", "ff")
    assert json.loads(tags["merge_plan"]) == {"sha256": "ff", "artifact": "merge-plan.json"}
    with pytest.raises(
        StudioError, match=r"found 100004 \(classes: 1\)\. Give them shorter names, in a training with merge\.classes"
    ):
        lineage_tags({}, ("n" * 100_000,), "b.pt", None, "id", "ff")
