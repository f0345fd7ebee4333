"""Read what a run of run-inference wrote, with pandas and supervision.

The cells (`# %%`) run one by one in VS Code, PyCharm or Spyder, or all of them as a script:

    set -a; . .studio/env; set +a
    aws s3 cp --recursive s3://predictions/FLOW_RUN_ID predictions
    PREDICTIONS=predictions .venv/bin/python examples/read_predictions.py
"""

# %% The table: a row a detection, boxes in pixels of the original image.
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import supervision as sv

folder = Path(os.environ.get("PREDICTIONS", "predictions"))
if not (folder / "predictions.parquet").is_file():
    raise SystemExit(f"expected predictions.parquet in {folder.absolute()}, found none: copy the folder of a run there")
table = pd.read_parquet(folder / "predictions.parquet")
print(table.head())

# %% Detections and mean confidence by class.
print(table.groupby("class_name")["confidence"].agg(["count", "mean"]).sort_values("count", ascending=False))

# %% The images with the most doubtful detections: good ones to label next.
doubtful = table[table["confidence"].between(0.25, 0.5)]
print(doubtful.groupby("source").size().sort_values(ascending=False).head(10))


# %% The detections of one picture, as supervision has them.
def to_detections(rows: pd.DataFrame) -> sv.Detections:
    """Return the rows of one image or frame as supervision's Detections."""
    return sv.Detections(
        xyxy=rows[["x1", "y1", "x2", "y2"]].to_numpy(),
        confidence=rows["confidence"].to_numpy(),
        class_id=rows["class_id"].to_numpy(),
        data={"class_name": rows["class_name"].to_numpy(str)},
    )


# %% Draw them, if the run kept copies of its images (`inference.images`).
pictures = pd.read_parquet(folder / "pictures.parquet")
for picture in pictures[pictures["image"].notna() & (pictures["detections"] > 0)].head(3).to_dict("records"):
    of_source = table[table["source"] == picture["source"]]
    rows = of_source if pd.isna(picture["frame"]) else of_source[of_source["frame"] == picture["frame"]]
    scene = np.asarray(cv2.imread(str(folder / picture["image"])))
    drawn = sv.BoxAnnotator().annotate(scene, to_detections(rows))
    drawn = sv.LabelAnnotator().annotate(drawn, to_detections(rows))
    target = folder / f"drawn-{Path(picture['image']).stem}.jpg"
    cv2.imwrite(str(target), drawn)
    print(f"{len(rows)} detections drawn into {target}")
