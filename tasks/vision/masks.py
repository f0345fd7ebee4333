"""Masks: from the outputs of a segmentation graph to pixels, and from pixels to an outline.

Model `predict` (model_repository) has this very file, as a link: it imports NumPy and OpenCV alone.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# A corner this close to the line between its neighbours, in pixels, is left out of an outline.
_OUTLINE_TOLERANCE = 0.5


def instance_mask(
    box: NDArray[np.float32], coefficients: NDArray[np.float32], prototypes: NDArray[np.float32], size: int
) -> tuple[NDArray[np.bool_], int, int]:
    """Return the mask [h, w] of an object inside its `box` [4], and the column and row of the square that it begins at.

    As Ultralytics makes it: `coefficients` [M] times `prototypes` [M, P, P], enlarged to `size` x `size` pixels, above
    0 at the pixels whose index lies inside the box. h or w is 0 if the box has none.
    """
    gain = size / prototypes.shape[1]
    left, top, right, bottom = np.clip(np.ceil(np.nan_to_num(box)), 0, size).astype(int).tolist()
    if left >= right or top >= bottom:
        return np.zeros((0, 0), np.bool_), left, top
    # Only the cells that the box needs, and one around them, which the interpolation at its border reads.
    first_column = max(0, int(left / gain) - 1)
    first_row = max(0, int(top / gain) - 1)
    cells = prototypes[:, first_row : int(bottom / gain) + 2, first_column : int(right / gain) + 2]
    values = np.tensordot(coefficients, cells, 1)
    sides = round(cells.shape[2] * gain), round(cells.shape[1] * gain)
    enlarged = cv2.resize(values, sides, interpolation=cv2.INTER_LINEAR)
    x = round(first_column * gain)
    y = round(first_row * gain)
    return np.asarray(enlarged[top - y : bottom - y, left - x : right - x] > 0, np.bool_), left, top


def mask_to_polygon(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the outline [k, 2] of the largest part of a mask, in its pixels; k is 0 if it is empty, else 3 or more."""
    if not mask.size:
        return np.empty((0, 2), np.float32)
    # OpenCV goes through the middles of the outermost pixels: in a mask twice as large, nearer to their edges.
    fine = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    rings = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not rings:
        return np.empty((0, 2), np.float32)
    largest = max(rings, key=cv2.contourArea)
    ring = cv2.approxPolyDP(largest, 2 * _OUTLINE_TOLERANCE, closed=True)
    if len(ring) < 3:
        # Of a mask a pixel wide only a line is left. Of one pixel the twice as large mask has 4 corners.
        ring = largest
    return np.asarray((ring.reshape(-1, 2) + 0.5) / 2, np.float32)
