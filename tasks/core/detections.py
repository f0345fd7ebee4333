"""What was found in one image or one video frame, and how it is written down."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.geometry import Floats, Letterbox
from tasks.core.parameters import InferenceParams
from tasks.core.served import ServedModel
from tasks.core.served_outputs import found_from_served

SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("frame", pa.int64()),
        pa.field("timestamp_ms", pa.float64()),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("class_name", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("x1", pa.float32(), nullable=False),
        pa.field("y1", pa.float32(), nullable=False),
        pa.field("x2", pa.float32(), nullable=False),
        pa.field("y2", pa.float32(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("model_version", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Moment:
    """A place in a video: `frame` counts from 0, `timestamp_ms` from the first frame."""

    frame: int
    timestamp_ms: float


@dataclass(frozen=True, eq=False)
class Detections:
    """The n detections of one picture, best first.

    `source` is the input as the user knows it. `frame` counts from 0 and `timestamp_ms` from the first frame; both are
    None for an image. `width` x `height` are the sides of the original in pixels, `boxes` [n, 4] are x1, y1, x2, y2 in
    those pixels, `confidence` [n] is 0 to 1 and `class_id` [n] counts from 0.
    """

    source: str
    frame: int | None
    timestamp_ms: float | None
    width: int
    height: int
    boxes: Floats
    confidence: Floats
    class_id: NDArray[np.int32]

    def __len__(self) -> int:
        """Return n."""
        return len(self.boxes)

    @classmethod
    def from_served(
        cls,
        output: Floats,
        letterbox: Letterbox,
        params: InferenceParams,
        source: str,
        moment: Moment | None = None,
    ) -> Self:
        """Read the served array [300, 6] (box in input pixels, confidence, class; unused rows are zero).

        Rows below `params.confidence` go, so do rows with a number that is none and boxes that lie in the padding.
        `params.iou` takes effect where it is stricter than the NMS in the graph. `moment` is None for an image. Raise
        ValueError for an array of another shape.
        """
        found = found_from_served({"detections": output}, "detect", letterbox, params.confidence, params.iou)
        frame, timestamp_ms = (moment.frame, moment.timestamp_ms) if moment else (None, None)
        place = source, frame, timestamp_ms, found.width, found.height
        return cls(*place, found.boxes, found.confidence, found.class_id)

    def scaled(self, width: int, height: int) -> Self:
        """Return the same detections on a copy of the picture that is resized to `width` x `height` pixels."""
        gains = np.array([width / self.width, height / self.height] * 2, np.float32)
        place = self.source, self.frame, self.timestamp_ms
        return type(self)(*place, width, height, self.boxes * gains, self.confidence, self.class_id)


def class_name(names: Sequence[str], class_id: int) -> str:
    """Return the name of a class, or a made-up one where the model says a class that its config does not list."""
    return names[class_id] if 0 <= class_id < len(names) else f"class {class_id}"


def to_table(found: Iterable[Detections], model: ServedModel) -> pa.Table:
    """Return a table with `SCHEMA`, a row a detection, in the order given."""
    pictures = list(found)
    counts = [len(picture) for picture in pictures]
    boxes = np.concatenate([np.empty((0, 4), np.float32), *(picture.boxes for picture in pictures)])
    ids = np.concatenate([np.empty(0, np.int32), *(picture.class_id for picture in pictures)])
    columns = {
        "source": _repeated([picture.source for picture in pictures], counts),
        "frame": _repeated([picture.frame for picture in pictures], counts),
        "timestamp_ms": _repeated([picture.timestamp_ms for picture in pictures], counts),
        "class_id": ids,
        "class_name": [class_name(model.class_names, int(class_id)) for class_id in ids],
        "confidence": np.concatenate([np.empty(0, np.float32), *(picture.confidence for picture in pictures)]),
        **{name: boxes[:, column] for column, name in enumerate(("x1", "y1", "x2", "y2"))},
        "model_name": [model.name] * len(ids),
        "model_version": [model.version] * len(ids),
    }
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, SCHEMA)


def _repeated(values: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
