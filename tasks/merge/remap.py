"""Label files under merged class ids."""

from array import array
from collections.abc import Sequence

import numpy as np

from tasks.dataset.labels import box_around, class_of

_BOX_FIELDS = 5


def remap_labels(text: str, class_ids: Sequence[int | None], task: str | None = None) -> str:
    """Return label rows with merged class ids; rows of dropped classes go, every number stays as it was written.

    For the task detect an outline becomes the box around it: Ultralytics refuses a file that has both. One space is
    between columns: some characters that count as a space in a label end a line for Ultralytics. A row that is there
    already, in the single precision that Ultralytics reads, is written once: classes may have become one.
    """
    rows: dict[tuple[float, ...], str] = {}
    for line in text.replace("\r", "\n").split("\n"):
        if fields := line.split():
            merged = class_ids[class_of(fields[0])]
            if merged is not None:
                numbers = fields[1:]
                if task == "detect" and len(fields) > _BOX_FIELDS:
                    numbers = [repr(side) for side in box_around(np.array(numbers, np.float64)).tolist()]
                row = " ".join([str(merged), *numbers]) + "\n"
                rows.setdefault((merged, *array("f", map(float, numbers))), row)
    return "".join(rows.values())
