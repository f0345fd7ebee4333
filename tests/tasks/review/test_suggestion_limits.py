"""What a round says of suggestions that are missing, as the run that it uses has not kept them."""

from typing import Any

import pytest

from tasks.parameters import InferenceParams
from tasks.review.suggestion_limits import suggestion_limits

NAMES = ("red", "white")


@pytest.mark.parametrize(
    ("inference", "expected"),
    [
        ({"confidence": 0.25}, []),
        ({"confidence": 0.1}, []),
        ({"confidence": 0.5, "class_confidence": {"white": 0.2}}, ["red 0.5. What"]),
        ({"confidence": "auto", "class_confidence": {"red": 0.3, "white": 0.4}}, ["red 0.3, white 0.4. What"]),
        ({"class_confidence": {"black": 0.1}}, ["does not tell"]),
        ({"iou": 0.5}, ["more than 0.5 (IoU)"]),
        ({"tiles": {}, "confidence": 0.9}, ["red 0.9, white 0.9", "in tiles"]),
        (None, ["does not tell"]),
    ],
)
def test_a_round_says_what_the_run_that_it_uses_has_not_kept(
    inference: dict[str, Any] | None, expected: list[str]
) -> None:
    params = InferenceParams.model_validate(inference) if inference is not None else None
    limits = suggestion_limits(params, NAMES, 0.25)
    assert len(limits) == len(expected)
    assert all(part in limit for part, limit in zip(expected, limits, strict=True))


def test_of_hundreds_of_classes_some_are_named_and_all_counted() -> None:
    names = [f"class {number}" for number in range(300)]
    (limit,) = suggestion_limits(InferenceParams(confidence=0.5), names, 0.25)
    assert "class 9 0.5 and 290 more classes. What" in limit
