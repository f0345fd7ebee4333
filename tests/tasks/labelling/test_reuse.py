"""Which predictions labels can be made of."""

from typing import Any

import pytest

from tasks.labelling.reuse import label_needs
from tasks.labelling.thresholds import LabelThreshold
from tasks.parameters import InferenceParams

THRESHOLDS = (LabelThreshold(low=0.1, high=0.8, labels=9), LabelThreshold(low=0.3, high=None, labels=0))
NAMES = ("red", "white")


@pytest.mark.parametrize(
    ("inference", "detect", "classify"),
    [
        ({"confidence": 0.1}, True, True),
        ({"confidence": 0.25}, False, True),
        ({"confidence": 0.1, "class_confidence": {"white": 0.3}}, True, True),
        ({"confidence": 0.1, "class_confidence": {"white": 0.31}}, False, True),
        ({"confidence": "auto", "class_confidence": {"red": 0.9, "white": 0.9}}, False, False),
        ({"confidence": 0.1, "class_confidence": {"black": 0.1}}, False, False),
        ({"confidence": 0.1, "iou": 0.5}, False, False),
        ({"confidence": 0.1, "tiles": {}}, False, False),
    ],
)
def test_predictions_are_used_again_if_they_lose_nothing(
    inference: dict[str, Any], detect: bool, classify: bool
) -> None:
    params = InferenceParams.model_validate(inference)
    for task, expected in (("detect", detect), ("classify", classify)):
        assert label_needs(task, THRESHOLDS).are_met_by(params, NAMES) == expected
    assert (label_needs("detect", THRESHOLDS).least, label_needs("classify", THRESHOLDS).least) == (0.1, 0.8)
