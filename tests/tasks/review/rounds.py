"""Rounds of review for tests: images with suggestions of a model."""

from typing import Any

from tasks.review.rounds import Round, RoundImage

CLASS_NAMES = ("cell", 'a & <b> "c"')
WIDTH, HEIGHT = 200, 100
_CORNERS = {"x1": 20.5, "y1": 10.25, "x2": 80.75, "y2": 60.0}
_KEYPOINTS = [30.0, 20.0, 0.9, 50.0, 30.0, 0.1, 70.0, 55.0, 0.8]


def row(class_name: str = "cell", confidence: float = 0.75, **values: Any) -> dict[str, Any]:
    """A row of predictions.parquet."""
    return {"class_name": class_name, "confidence": confidence, **_CORNERS, **values}


ROWS: dict[str, list[dict[str, Any]]] = {
    "detect": [row(), row(CLASS_NAMES[1], x1=-5.0, x2=300.0)],
    "segment": [row(polygon=[20.0, 10.0, 80.0, 10.0, 70.0, 60.0, 20.0, 50.0]), row(polygon=[])],
    "obb": [row(polygon=[100.0, 20.0, 130.0, 40.0, 120.0, 55.0, 90.0, 35.0]), row(polygon=[-9, 5, 9, 5, 9, 9, -9, 9])],
    "pose": [row(keypoints=_KEYPOINTS)],
    "classify": [row(CLASS_NAMES[1]), row("cell", 0.25)],
}


def review_round(task: str, *entries: str) -> Round:
    """A round in which each image has the rows of its task."""
    rows = tuple(ROWS[task])
    return Round(
        model_name="cells",
        model_version=3,
        task=task,
        class_names=CLASS_NAMES,
        keypoints=3 if task == "pose" else 0,
        predictions_run="11111111-1111-1111-1111-111111111111",
        images=tuple(
            RoundImage(entry=entry, source=f"s3://{entry}", width=WIDTH, height=HEIGHT, rows=rows) for entry in entries
        ),
    )
