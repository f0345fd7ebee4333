"""What Label Studio is told of images: the labelling interface of a project, and a model's suggestions.

`tasks/importing/label_studio.py` reads what comes back: https://labelstud.io/guide/predictions.
"""

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from tasks.importing.annotations import Box, Floats, Outline, Pose, RotatedBox, Shape, Tag
from tasks.review.class_names import require_showable

IMAGE, CONTROL, POINTS = "image", "label", "keypoints"
_CONTROLS = {  # of each task; the attributes say what a person may draw
    "detect": 'RectangleLabels canRotate="false"',
    "obb": 'RectangleLabels canRotate="true"',
    "segment": "PolygonLabels",
    "pose": 'RectangleLabels canRotate="false"',
    "classify": 'Choices choice="single-radio" showInline="true" required="true"',
}
_POINT_PERCENT = 0.5  # of the width, in which a keypoint is drawn


def point_names(keypoints: int) -> list[str]:
    """Return the names under which the keypoints of a pose are shown, in their order."""
    return [f"point {number + 1}" for number in range(keypoints)]


def labelling_configuration(task: str, class_names: Sequence[str], keypoints: int) -> str:
    """Return the labelling interface of a project as XML; a pose has so many `keypoints`.

    Raises:
        ClassNameError: A class has no name, or one that Label Studio would change.
    """
    require_showable(class_names)
    control = _CONTROLS[task]
    parts = [_control(control, CONTROL, "Choice" if task == "classify" else "Label", class_names)]
    if task == "pose":
        parts.append(_control("KeyPointLabels", POINTS, "Label", point_names(keypoints)))
    image = f'<Image name="{IMAGE}" value="${IMAGE}" zoom="true" zoomControl="true"/>'
    return f"<View>{image}{''.join(parts)}</View>"


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
