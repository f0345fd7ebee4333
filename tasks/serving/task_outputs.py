"""The outputs of the served graph of each task: their names, and their shapes after N.

It imports nothing, because it is published with every version and runs inside Triton.
"""

MAX_DETECTIONS = 300

# A letter is a size that the graph has: C classes, M prototypes, K keypoints, S/4 a quarter of the image size. It is
# the same number in all outputs of a graph.
_DETECTIONS = {"detections": (MAX_DETECTIONS, 6)}
OUTPUTS: dict[str, dict[str, tuple[int | str, ...]]] = {
    "detect": {**_DETECTIONS},
    "segment": {**_DETECTIONS, "coefficients": (MAX_DETECTIONS, "M"), "prototypes": ("M", "S/4", "S/4")},
    "pose": {**_DETECTIONS, "keypoints": (MAX_DETECTIONS, "K", 3)},
    "obb": {**_DETECTIONS, "rotated": (MAX_DETECTIONS, 5)},
    "classify": {"scores": ("C",)},
}


def output_shapes(task: str, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shape after N of each output of a task; -1 stands for a letter that is not in `sizes`."""
    return {
        name: tuple(size if isinstance(size, int) else sizes.get(size, -1) for size in shape)
        for name, shape in OUTPUTS[task].items()
    }
