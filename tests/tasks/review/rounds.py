"""Rounds of review for tests: images with suggestions of a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.importing.importer import ImportSummary, import_archive
from tasks.importing.label_studio import CONFIGURATION
from tasks.inference.work_plan import MediaSource
from tasks.media.file_type import MediaKind
from tasks.parameters import ImportParams
from tasks.review.label_studio_format import labelling_configuration, to_results
from tasks.review.rounds import Round, RoundImage, ToolName, to_shapes
from tests.tasks.importing import sources

Results = list[dict[str, Any]]

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


def review_round(task: str, *entries: str, tool: ToolName = ToolName.LABEL_STUDIO) -> Round:
    """A round in a tool, in which each image has the rows of its task."""
    rows = tuple(ROWS[task])
    return Round(
        model_name="cells",
        model_version=3,
        task=task,
        class_names=CLASS_NAMES,
        tool=tool,
        keypoints=3 if task == "pose" else 0,
        predictions_run="11111111-1111-1111-1111-111111111111",
        images=tuple(
            RoundImage(
                entry=entry, source=f"s3://{entry}", width=WIDTH, height=HEIGHT, rows=rows, media=media_source(entry)
            )
            for entry in entries
        ),
    )


def media_source(entry: str) -> MediaSource:
    """Where the image of an entry was read."""
    return MediaSource(name=f"s3://{entry}", bucket="media", key=entry, etag="1", size=1, kind=MediaKind.IMAGE)


def returned(
    folder: Path, review: Round, edit: Callable[[str, Results], Results] = lambda _, same: same
) -> ImportSummary:
    """Write `back.zip`, the archive of a round whose images were all submitted, by default as they were suggested.

    `edit` returns what a person makes of the results of an entry.
    """
    tasks = []
    for image in review.images:
        result = [dict(each) for each in to_results(to_shapes(review.task, image), image.width, image.height)]
        tasks.append({"data": {"image": image.entry}, "annotations": [{"result": edit(image.entry, result)}]})
    files: dict[str, bytes | str] = {
        **{image.entry: sources.jpeg(at, WIDTH, HEIGHT) for at, image in enumerate(review.images)},
        "tasks.json": json.dumps(tasks),
        CONFIGURATION: labelling_configuration(review),
    }
    source = sources.write_zip(folder / "source.zip", files)
    params = ImportParams(format="label-studio", task=review.task, split="new", val=0)
    return import_archive(source, folder / "back.zip", params, {})
