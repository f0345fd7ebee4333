"""What travels between the flow and the training process."""

from pathlib import Path

import pytest

from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import (
    EvaluationJob,
    EvaluationTarget,
    Failure,
    Job,
    ReferencePredictionJob,
    TrainerEvent,
    TrainingJob,
    from_json_line,
    to_json_line,
)
from tasks.vision.metrics import Scores

SCORES = Scores(task="detect", metrics={"mAP50": 0.5}, classes={"ca\nt": {"mAP50": 0.5}}, images=4)


@pytest.mark.parametrize(
    "value",
    [
        TrainingJob("yolo11n.yaml", "detect", Path("data.yaml"), Path("x"), {"epochs": 3}, Path("a.pt"), None, 2, True),
        EvaluationJob((EvaluationTarget(Path("w.pt"), Path("data.yaml"), 640),), "segment", Path("x"), 16, "0,1"),
        ReferencePredictionJob(Path("w.pt"), Path("s.zip"), Path("served"), Path("new"), 640, "pose", Path("x"), "0"),
        EpochResult(3, 10, {"loss": 0.25}, 1.5, 8, checkpoint=Path("3.pt"), best=2),
        TrainedModel(Path("best.pt"), Path("x"), "detect", ("ca\nt",), SCORES, 10, 7, 8),
        SCORES,
        Failure("no\nmemory", memory=True),
    ],
)
def test_a_message_is_one_line_and_comes_back_as_it_was(value: Job | TrainerEvent) -> None:
    line = to_json_line(value)
    assert "\n" not in line
    assert from_json_line(line) == value


def test_not_a_number_survives() -> None:
    """A loss that is not a number is what a person must see."""
    assert str(from_json_line(to_json_line(EpochResult(1, 2, {"loss": float("nan")}))).metrics["loss"]) == "nan"


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"kind": "Epoch", "value": {}}', '{"kind": "Other", "value": 1}'])
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json_line(line)
