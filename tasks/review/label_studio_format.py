"""What Label Studio is told of images and says of them: the labelling interface, suggestions, and answers.

`tasks/importing/label_studio.py` reads what comes back: https://labelstud.io/guide/predictions.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from tasks.importing.annotations import Box, Floats, Outline, Pose, RotatedBox, Shape, Tag
from tasks.importing.label_studio import CONFIGURATION
from tasks.review.answers import LONGEST_S, ReviewTask
from tasks.review.class_names import require_showable
from tasks.review.rounds import ANSWERS, Round

IMAGE, CONTROL, POINTS, WHY = "image", "label", "keypoints", "why"
_CONTROLS = {  # of each task; the attributes say what a person may draw
    "detect": 'RectangleLabels canRotate="false"',
    "obb": 'RectangleLabels canRotate="true"',
    "segment": "PolygonLabels",
    "pose": 'RectangleLabels canRotate="false"',
    "classify": 'Choices choice="single-radio" showInline="true" required="true"',
}
_POINT_PERCENT = 0.5  # of the width, in which a keypoint is drawn
_KEPT = (  # of an annotation: others say how long ago something was
    *("id", "result", "was_cancelled", "ground_truth", "lead_time"),
    *("completed_by", "created_at", "updated_at"),
)


class LabelStudioAnswers:
    """What is the same of each tool whose answers have the form of Label Studio."""

    answers_name = ANSWERS
    import_format = "label-studio"

    def documents(self, review: Round, exports: Mapping[str, str]) -> dict[str, bytes]:
        """Return what was submitted as an export of a project, and its labelling interface, which has the classes."""
        return {
            self.answers_name: f"[{', '.join(exports.values())}]".encode(),
            CONFIGURATION: labelling_configuration(review).encode(),
        }


def to_task(
    entry: str, annotations: Sequence[Mapping[str, Any]], *, skipped: bool, set_aside: bool = False
) -> ReviewTask:
    """Return an image of annotations as the API gives them, exported the same as long as nobody changes them."""
    kept = [{name: each[name] for name in _KEPT if name in each} for each in annotations]
    export = json.dumps({"data": {IMAGE: entry}, "annotations": kept}) if kept else None
    seconds = _seconds(annotations)
    return ReviewTask(entry=entry, submitted=export, skipped=skipped, set_aside=set_aside, seconds=seconds)


def _seconds(annotations: Sequence[Mapping[str, Any]]) -> float | None:
    told = [each.get("lead_time") for each in annotations]
    known = [float(each) for each in told if isinstance(each, int | float) and math.isfinite(each) and each >= 0]
    return min(sum(known), LONGEST_S) if known else None


def point_names(keypoints: int) -> list[str]:
    """Return the names under which the keypoints of a pose are shown, in their order."""
    return [f"point {number + 1}" for number in range(keypoints)]


def labelling_configuration(review: Round) -> str:
    """Return the labelling interface of the project of a round as XML.

    Raises:
        ClassNameError: A class has no name, or one that Label Studio would change.
    """
    require_showable(review.class_names)
    kind = "Choice" if review.task == "classify" else "Label"
    parts = [_control(_CONTROLS[review.task], CONTROL, kind, review.class_names)]
    if review.task == "pose":
        parts.append(_control("KeyPointLabels", POINTS, "Label", point_names(review.keypoints)))
    image = f'<Image name="{IMAGE}" value="${IMAGE}" zoom="true" zoomControl="true"/>'
    why = f'<Text name="{WHY}" value="${WHY}"/>' if any(each.reason for each in review.images) else ""
    return f"<View>{why}{image}{''.join(parts)}</View>"


def _control(opening: str, name: str, kind: str, values: Sequence[str]) -> str:
    children = "".join(f"<{kind} value={quoteattr(value)}/>" for value in values)
    return f'<{opening} name="{name}" toName="{IMAGE}">{children}</{opening.partition(" ")[0]}>'


def to_results(suggested: Sequence[tuple[Shape, float]], width: int, height: int) -> list[dict[str, Any]]:
    """Return the `result` of a prediction: shapes in pixels of an image of `width` x `height`, with their scores."""
    hundredth = np.array([width, height]) / 100
    results = []
    for number, (shape, confidence) in enumerate(suggested):
        about = {"original_width": width, "original_height": height, "image_rotation": 0, "score": confidence}
        own = f"suggestion-{number}"
        for at, (kind, value) in enumerate(_values(shape, hundredth)):
            region = {"id": f"{own}-{at}", "parentID": own} if at else {"id": own}
            control = POINTS if kind == "keypointlabels" else CONTROL
            results.append({**about, **region, "type": kind, "from_name": control, "to_name": IMAGE, "value": value})
    return results


def _values(shape: Shape, hundredth: Floats) -> list[tuple[str, dict[str, Any]]]:
    """Return type and value of each result of a shape: the object first, then its visible keypoints."""
    match shape:
        case Tag():
            return [("choices", {"choices": [shape.class_name]})]
        case Outline():
            (ring,) = shape.rings
            value = {"points": (ring / hundredth).tolist(), "closed": True, "polygonlabels": [shape.class_name]}
            return [("polygonlabels", value)]
        case RotatedBox():
            return [_rectangle(shape.class_name, shape.corners, hundredth)]
        case Box() | Pose():
            left, top, right, bottom = shape.corners
            corners = np.array([[left, top], [right, top], [right, bottom]])
            points = shape.keypoints if isinstance(shape, Pose) else np.zeros((0, 3))
            named = zip(point_names(len(points)), points, strict=True)
            seen = [_point(name, point[:2], hundredth) for name, point in named if point[2] > 0]
            return [_rectangle(shape.class_name, corners, hundredth), *seen]


def _rectangle(class_name: str, corners: Floats, hundredth: Floats) -> tuple[str, dict[str, Any]]:
    """Return a box of its first three corners (3, 2) in pixels: Label Studio turns it round the first one."""
    first, second, third = corners[:3]
    x, y = first / hundredth
    width, height = np.array([math.dist(first, second), math.dist(second, third)]) / hundredth
    degrees = math.degrees(math.atan2(*(second - first)[::-1]))
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": degrees, "rectanglelabels": [class_name]}
    return "rectanglelabels", {key: each if isinstance(each, list) else float(each) for key, each in value.items()}


def _point(name: str, place: Floats, hundredth: Floats) -> tuple[str, dict[str, Any]]:
    x, y = (place / hundredth).tolist()
    return "keypointlabels", {"x": x, "y": y, "width": _POINT_PERCENT, "keypointlabels": [name]}
