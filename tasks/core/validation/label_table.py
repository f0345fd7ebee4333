"""All labels of an archive as one data frame."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class LabelTable:
    """The rows without an error, one a label, in the order of the files and of their lines.

    Columns of `rows`: `label` (category: entry name of the label file), `line` (int32, from 1), `class_id` (int32), `x`,
    `y`, `width`, `height` (float64: centre and size of the bounding box as shares of the image), `corners` (int32: 0 for
    a box, else the number of corners). `written` maps each label file to the number of its lines with text, faulty ones
    included. `task` is None where no row can tell it.
    """

    task: str | None
    rows: pd.DataFrame
    written: Mapping[str, int]
