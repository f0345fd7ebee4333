"""What was found in one image or one video frame, and how it is written down."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.geometry import Floats, Letterbox, suppress
from tasks.core.parameters import InferenceParams
from tasks.core.served import ServedModel

SERVED_IOU = 0.7  # what the NMS inside the served graph has done already
FARTHEST = 1e6  # pixels, and classes

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
        rows = _usable(output, params.confidence)
        stricter = params.iou < SERVED_IOU
        rows = suppress(rows, params.iou) if stricter else rows[np.argsort(-rows[:, 4], kind="stable")]
        boxes = letterbox.to_image(rows[:, :4])
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        rows, boxes = rows[inside], boxes[inside]
        classes = rows[:, 5].astype(np.int32)
        frame, timestamp_ms = (moment.frame, moment.timestamp_ms) if moment else (None, None)
        return cls(source, frame, timestamp_ms, letterbox.width, letterbox.height, boxes, rows[:, 4], classes)

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


def _usable(output: Floats, confidence: float) -> Floats:
    rows = np.asarray(output, np.float32)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ValueError(
            f"expected detections of shape [n, 6], found {list(rows.shape)}; "
            "serve a detection model that deploy_model exported"
        )
    rows = rows[np.isfinite(rows).all(axis=1)]
    # Padding rows have confidence 0, which a threshold of 0 would let through.
    rows = rows[(rows[:, 4] >= confidence) & (rows[:, 4] > 0)]
    # A broken graph may say anything finite: keep areas and class numbers inside their types.
    return np.clip(rows, -FARTHEST, FARTHEST)


def _repeated(values: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
