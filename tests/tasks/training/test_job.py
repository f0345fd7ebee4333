"""What travels between the flow and the training process."""

from pathlib import Path

import pytest

from tasks.training.events import EpochResult, TrainedModel
from tasks.training.job import (
    EvaluationJob,
    EvaluationTarget,
    Failure,
    Job,
    PredictedChunk,
    PredictionJob,
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
        TrainingJob(
            model="yolo11n.yaml",
            task="detect",
            data=Path("data.yaml"),
            folder=Path("x"),
            arguments={"epochs": 3},
            checkpoint=Path("a.pt"),
            best=None,
            best_epoch=2,
            finished=True,
        ),
        EvaluationJob(
            subjects=(EvaluationTarget(weights=Path("w.pt"), data=Path("data.yaml"), image_size=640),),
            task="segment",
            folder=Path("x"),
            batch=16,
            device="0,1",
        ),
        ReferencePredictionJob(
            weights=Path("w.pt"),
            sample=Path("s.zip"),
            served=(Path("served"), Path("bf16")),
            reference=Path("new"),
            image_size=640,
            task="pose",
            folder=Path("x"),
            device="0",
        ),
        PredictionJob(
            weights=Path("w.pt"),
            task="obb",
            image_size=640,
            chunks=((Path("a.jpg"), Path("b.jpg")), (Path("c.jpg"),)),
            predictions=(Path("0.zip"), Path("1.zip")),
            folder=Path("x"),
        ),
        PredictedChunk(number=1, images=2),
        EpochResult(
            number=3, total_epochs=10, metrics={"loss": 0.25}, seconds=1.5, batch=8, checkpoint=Path("3.pt"), best=2
        ),
        TrainedModel(
            weights=Path("best.pt"),
            folder=Path("x"),
            task="detect",
            class_names=("ca\nt",),
            scores=SCORES,
            epochs=10,
            best_epoch=7,
            batch=8,
        ),
        SCORES,
        Failure(reason="no\nmemory", memory=True),
    ],
)
def test_a_message_is_one_line_and_comes_back_as_it_was(value: Job | TrainerEvent) -> None:
    line = to_json_line(value)
    assert "\n" not in line
    assert from_json_line(line) == value


def test_not_a_number_survives() -> None:
    """A loss that is not a number is what a person must see."""
    assert (
        str(
            from_json_line(to_json_line(EpochResult(number=1, total_epochs=2, metrics={"loss": float("nan")}))).metrics[
                "loss"
            ]
        )
        == "nan"
    )


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"kind": "Epoch", "value": {}}', '{"kind": "Other", "value": 1}'])
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json_line(line)
