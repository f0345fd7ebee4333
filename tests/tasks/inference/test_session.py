"""What a run of inference tells about itself."""

from tasks.inference.session import MOST_THRESHOLDS, list_thresholds


def test_the_log_tells_from_which_confidence_a_class_counts() -> None:
    assert list_thresholds({"cat": 0.5, "a\nb": 0.25}) == "0.500 for 'cat', 0.250 for 'a\\nb'"
    many = list_thresholds({f"class {number}": 0.5 for number in range(MOST_THRESHOLDS + 3)})
    assert many.endswith("0.500 for 'class 19' and others for 3 more classes")
